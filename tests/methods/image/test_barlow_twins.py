from functools import partial

import pytest
import torch
from torch import nn

from unlabeled.methods.image import barlow_twins
from unlabeled.methods.image.barlow_twins import BarlowTwins

HADAMARD = torch.tensor([[1.0, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]]).double()


def loss_of(method, batch):
    (value,) = method.loss(batch).values()
    return value


@pytest.fixture
def bare(given):
    """Barlow Twins of embeddings that the test chooses."""

    def make(dim):
        method = BarlowTwins(given(dim), dim=2)
        method.projector = nn.Identity()
        return method

    return make


def test_uncorrelated_dimensions_that_agree_give_nothing(bare, pair):
    assert loss_of(bare(3), pair(HADAMARD, HADAMARD)).item() == pytest.approx(0, abs=1e-4)


def test_opposite_views_give_four_a_dimension(bare, pair):
    value = loss_of(bare(3), pair(HADAMARD, -HADAMARD)).item()
    assert value == pytest.approx(12, rel=1e-3)


def test_equal_dimensions_give_lambda_for_each_pair(bare, pair):
    z = torch.randn(64, 1).double().expand(64, 4)
    assert loss_of(bare(4), pair(z, z)).item() == pytest.approx(0.0612, abs=1e-4)


def test_collapse_costs_one_a_dimension(bare, pair):
    z = torch.ones(16, 5).double()
    assert loss_of(bare(5), pair(z, z)).item() == pytest.approx(5)


def test_standardized_over_the_batch_and_not_along_the_features(bare, pair):
    """Scale and shift of a dimension do not matter; those of a sample do."""
    one, two = torch.randn(2, 32, 4).double()
    value = loss_of(bare(4), pair(one, two))
    stretched = one * torch.tensor([1.0, 20, 300, 4]) + torch.arange(4)
    torch.testing.assert_close(loss_of(bare(4), pair(stretched, two)), value, rtol=1e-3, atol=0)
    uneven = one * torch.linspace(0.1, 3, 32)[:, None]
    assert abs(loss_of(bare(4), pair(uneven, two)) - value) > 1e-3
    order = torch.randperm(32)
    torch.testing.assert_close(loss_of(bare(4), pair(one[order], two[order])), value)
    torch.testing.assert_close(loss_of(bare(4), pair(two, one)), value)


def test_both_views_and_all_parameters_get_a_gradient(encoder, views):
    method = BarlowTwins(encoder, dim=16)
    batch = views(8)
    for view in batch["views"]:
        view.requires_grad_()
    loss_of(method, batch).backward()
    assert all(view.grad.abs().sum() > 0 for view in batch["views"])
    assert all(value.grad.abs().sum() > 0 for value in method.projector.parameters())


def test_projector_has_three_layers_without_biases(encoder):
    method = BarlowTwins(encoder, dim=32)
    kinds = [nn.Linear, nn.BatchNorm1d, nn.ReLU] * 2 + [nn.Linear]
    assert [type(layer) for layer in method.projector] == kinds
    assert all(layer.bias is None for layer in method.projector if isinstance(layer, nn.Linear))
    with torch.device("meta"):
        paper = barlow_twins.paper().build()
    assert [layer.weight.shape for layer in paper.projector if isinstance(layer, nn.Linear)] == [
        (8192, 2048),
        (8192, 8192),
        (8192, 8192),
    ]


def test_biases_and_norms_have_a_rate_of_their_own(groups_during):
    recipe = barlow_twins.paper()
    steps = groups_during(recipe, partial(BarlowTwins, dim=16), steps=2)
    assert len(steps[1]) > 10
    for name, group in steps[1].items():
        norm = group["adapt"] is False
        assert norm is ("norm" in name or name.split(".")[-2] == "1" or "projector.4" in name), name
        assert group["weight_decay"] == (0.0 if norm else 1e-6)
    rates = {group["adapt"]: group["lr"] for group in steps[1].values()}
    assert rates[False] / rates[True] == pytest.approx(0.024)
    assert recipe.optim.lr(steps_at(0.0)) == 0
    assert recipe.optim.lr(steps_at(0.01)) == pytest.approx(0.2)
    assert recipe.optim.lr(steps_at(1.0)) == pytest.approx(0.0002)


def steps_at(share):
    from unlabeled.schedule import Clock

    return Clock(round(share * 100_000), 100_000, 100)


def test_views_are_asymmetric():
    views = barlow_twins.paper().views
    assert (views.first.blur, views.first.solarize) == (1.0, 0.0)
    assert (views.second.blur, views.second.solarize) == (0.1, 0.2)
