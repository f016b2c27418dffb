from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny
from unlabeled.data.latent_tree import LatentTree, TreeSpec
from unlabeled.encoders.tree import TreeEncoder
from unlabeled.evaluators.tree import CovarianceProbe, TreeCorrelation, best_correlations
from unlabeled.methods.image.byol import BYOL
from unlabeled.studies.dual_deep_networks import ByolHeads, paper, report, small
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.tree import TreePairs

SPEC = TreeSpec(depth=3, lower=0.9, seed=0)


def test_a_unit_sees_the_leaves_below_its_node_alone():
    torch.manual_seed(0)
    encoder = TreeEncoder(SPEC, width=4)
    x = torch.rand(5, 8)
    local = encoder.local(x)
    assert local.shape == (5, 7, 4)
    assert torch.equal(encoder(x), local[:, 0])
    moved = x.clone()
    moved[:, 5] = 1 - moved[:, 5]  # leaf 5: below node 5 of level 2 and node 2 of level 1
    changed = (encoder.local(moved) != local).any(2).any(0)
    assert changed.tolist() == [True, False, True, False, False, True, False]


def test_a_node_is_a_linear_layer_of_relus_of_its_children():
    torch.manual_seed(0)
    encoder = TreeEncoder(SPEC, width=4).double()
    local = encoder.local(torch.rand(3, 8, dtype=torch.float64))
    inputs = torch.cat([local[:, 5], local[:, 6]], 1).relu()  # the children of node 2
    expected = inputs @ encoder.weights[1][1] + encoder.biases[1][1]
    torch.testing.assert_close(local[:, 2], expected)


def test_correlations_by_hand():
    states = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    units = torch.stack([states * -3 + 1, torch.ones(4, 1)], 2)
    assert best_correlations(units, states).tolist() == pytest.approx([1.0])
    assert best_correlations(torch.ones(4, 1, 2), states).tolist() == [0.0]
    drawn = torch.randn(50, 1, 1), torch.randn(50, 1)
    expected = torch.corrcoef(torch.stack([drawn[0][:, 0, 0], drawn[1][:, 0]]))[0, 1].abs()
    assert float(best_correlations(*drawn)) == pytest.approx(float(expected), abs=1e-5)


def test_a_network_that_copies_leaves_correlates_and_images_have_no_figure():
    data = LatentTree(depth=2, lower=1.0, test_samples=200)

    def copies(x):
        return x[:, :1, None].expand(-1, 3, 2)

    found = TreeCorrelation().judge(copies, data)
    assert [each.metric for each in found] == ["root", "level 1"]
    assert all(each.value == pytest.approx(1, abs=1e-6) for each in found)
    assert TreeCorrelation().judge(copies, tiny("simclr").data) == []


def test_the_probe_of_a_tree_without_biases_is_aligned():
    data = LatentTree(depth=3)
    torch.manual_seed(0)
    encoder = TreeEncoder(data.spec(), width=3, bias=False).double()
    before = [value.clone() for value in encoder.parameters()]
    found = {
        each.metric: each.value for each in CovarianceProbe(views=TreePairs()).judge(encoder, data)
    }
    assert found["alignment of first"] == pytest.approx(1, abs=1e-6)
    assert found["alignment of last"] == pytest.approx(1, abs=1e-6)
    assert 0 < found["between of first"] < 100
    assert 0 < found["top of last"] <= 101
    assert all(
        torch.equal(one, other) for one, other in zip(before, encoder.parameters(), strict=True)
    )


def test_with_batch_norm_it_is_byol_and_without_gradients_have_a_mean():
    recipe = tiny("byol")
    raw = recipe.data.split("train").__getitems__(list(range(16)))
    batch = recipe.views(raw, SampleGenerator(0, 0, raw["index"]))
    torch.manual_seed(0)
    ours = replace(recipe, method=lambda e: ByolHeads(e, norm="batch", hidden=8, dim=4)).build()
    torch.manual_seed(0)
    theirs = replace(recipe, method=lambda e: BYOL(e, hidden=8, dim=4)).build()
    torch.testing.assert_close(ours.loss(batch), theirs.loss(batch))
    seen = {}
    for norm in ("center", "none"):
        method = replace(recipe, method=lambda e, n=norm: ByolHeads(e, norm=n, hidden=8, dim=4))
        made = method.build()
        made.projector[1].register_full_backward_hook(
            lambda _, gradient, __, n=norm: seen.__setitem__(n, gradient[0].mean(0).abs().max())
        )
        made.loss(batch)["regression"].backward()
    assert seen["center"] < 1e-6 < seen["none"]
    with pytest.raises(ValueError, match="use one of batch, center, none"):
        ByolHeads(recipe.encoder(recipe.views.spec), norm="layer")


@pytest.mark.parametrize("name", small().recipes)
def test_each_recipe_has_a_finite_loss_and_a_gradient_for_the_encoder(name):
    recipe = small().recipes[name]
    if not isinstance(recipe.data, LatentTree):
        recipe = replace(tiny("byol"), method=recipe.method)
    recipe = recipe.fitted()
    torch.manual_seed(0)
    method = recipe.build()
    raw = recipe.data.split("train").__getitems__(list(range(16)))
    loss = sum(method.loss(recipe.views(raw, SampleGenerator(0, 0, raw["index"]))).values())
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None for p in method.encoder.parameters())


def test_the_report_holds_each_claim_against_its_figures():
    tree = {"random": [0.85], "nce_10": [0.95], "difference_10": [0.94], "soft_triplet_10": [0.86],
            "exact_covariance_10": [0.93], "nce_2": [0.8], "random (nce_2)": [0.7]}  # fmt: skip
    knn = {"image_nce": [80.0], "image_exact_covariance": [79.0], "byol_batch": [80.0],
           "byol_center": [76.0], "byol_none": [70.0]}  # fmt: skip
    lines = report({"tree": tree, "knn": knn})
    assert all(line.startswith(("shown", "3 of 4")) for line in lines)
    assert "0.70 before" in lines[2]
    flat = report({"tree": {name: [0.8] for name in tree}, "knn": {name: [70.0] for name in knn}})
    assert [line.partition(":")[0] for line in flat] == [
        "not shown", "0 of 4 losses of the family raise it by 0.03 or more", "not shown", "shown",
        "not shown", "not shown",
    ]  # fmt: skip


def test_the_study_has_trees_and_images():
    for study in (small(), paper()):
        trees = [name for name, r in study.recipes.items() if isinstance(r.data, LatentTree)]
        assert len(trees) == 5
        assert len(study.recipes) == 10
