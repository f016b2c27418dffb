import math
from functools import partial

import pytest
import torch
from torch import nn

from unlabeled.methods.image import simclr
from unlabeled.methods.image.simclr import SimCLR, nonlinear_head
from unlabeled.recipe import override
from unlabeled.schedule import Clock


def loss_of(method, batch):
    (value,) = method.loss(batch).values()
    return value


@pytest.mark.parametrize(("images", "expected"), [(2, 1.0986), (4, 1.9459), (256, 6.2364)])
def test_equal_embeddings_give_the_log_of_the_number_of_candidates(
    given, no_head, pair, images, expected
):
    z = torch.ones(images, 3)
    value = loss_of(SimCLR(given(3), head=no_head), pair(z, 5 * z)).item()
    assert value == pytest.approx(math.log(2 * images - 1), rel=1e-6)
    assert value == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("images", "temperature", "expected"),
    [(2, 0.5, 0.23954), (4, 0.5, 0.59444), (4, 0.1, 0.000272)],
)
def test_perfect_pairs_keep_the_loss_of_their_negatives(
    given, no_head, pair, images, temperature, expected
):
    z = torch.eye(images, dtype=torch.float64)
    method = SimCLR(given(images), head=no_head, temperature=temperature)
    assert loss_of(method, pair(z, z)).item() == pytest.approx(expected, rel=2e-3)


def test_the_head_normalizes_after_both_layers_and_has_no_bias_or_last_center():
    head = nonlinear_head(64, 32)
    assert [type(layer) for layer in head] == [
        nn.Linear,
        nn.BatchNorm1d,
        nn.ReLU,
        nn.Linear,
        nn.BatchNorm1d,
    ]
    assert {name for name, _ in head.named_parameters()} == {
        "0.weight", "1.weight", "1.bias", "3.weight", "4.weight",
    }  # fmt: skip
    assert head[0].weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert head[3].weight.std().item() == pytest.approx(0.01, rel=0.1)


def test_both_views_share_their_batch_statistics(encoder, views):
    """One pass of 2N images: a sample that moves to the other view changes no pair."""
    method = SimCLR(encoder, dim=8).double()
    one, two = (view.double() for view in views(6)["views"])
    before = loss_of(method, {"views": [one, two], "index": torch.arange(6)})
    one[0], two[0] = two[0].clone(), one[0].clone()
    after = loss_of(method, {"views": [one, two], "index": torch.arange(6)})
    torch.testing.assert_close(after, before)


def test_both_views_and_all_parameters_get_a_gradient(encoder, views):
    method = SimCLR(encoder, dim=8)
    batch = views(6)
    for view in batch["views"]:
        view.requires_grad_()
    loss_of(method, batch).backward()
    assert all(view.grad.abs().sum() > 0 for view in batch["views"])
    # a shift before a batch norm is taken out again, so only the two centers may get about 0
    assert all(value.grad is not None for value in method.parameters())


def test_embedding_is_h_and_not_z(encoder, views):
    method = SimCLR(encoder, dim=5)
    assert method.predictors()["embed"](views(3)["views"][0]).shape == (3, 16)


def test_learning_rate_follows_the_batch_with_warmup_and_cosine():
    recipe = simclr.paper()
    assert recipe.optim.lr_per == 256
    epoch = recipe.data.size("train") // recipe.batch_size
    scale = recipe.batch_size / recipe.optim.lr_per
    rate = [
        recipe.optim.lr(Clock(e * epoch, 1000 * epoch, epoch)) * scale for e in (0, 5, 10, 1000)
    ]
    assert rate == pytest.approx([0, 2.4, 4.8, 0])
    assert override(recipe, {"method.temperature": 0.5}).method.keywords["temperature"] == 0.5


def test_biases_and_norms_get_neither_decay_nor_adaptation(groups_during):
    (groups,) = groups_during(simclr.paper(), partial(SimCLR, dim=8), steps=1)
    assert len(groups) > 10
    for name, group in groups.items():
        norm_or_bias = (
            "norm" in name
            or name.startswith(("projector.1", "projector.4", "encoder.net.stem.1"))
            or ".shortcut.1" in name
        )
        assert group["adapt"] is not norm_or_bias, name
        assert group["weight_decay"] == (0.0 if norm_or_bias else 1e-6), name


def test_residual_branches_of_the_paper_start_at_zero():
    net = simclr.paper().build().encoder.net
    assert not net.layer1[0].bn3.weight.any()
    assert net.layer1[0].bn2.weight.all()
