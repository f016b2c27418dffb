import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from unlabeled.data.factors import Box, Factors, Sphere, mix
from unlabeled.views.factors import (
    FactorPairs,
    laplace_in_box,
    normal_in_box,
    von_mises_fisher,
)
from unlabeled.views.generator import SampleGenerator

COUNT = 40_000


def generator(count: int = COUNT) -> SampleGenerator:
    return SampleGenerator(0, 0, torch.arange(count))


@pytest.mark.parametrize("concentration", [1.0, 10.0, 100.0])
def test_von_mises_fisher_has_its_resultant_length(concentration):
    """A_3(k) = coth k - 1 / k; 0.9000 for k = 10."""
    mean = F.normalize(torch.tensor([[1.0, -2.0, 0.5]]), dim=1).expand(COUNT, 3)
    z = von_mises_fisher(mean, generator(), concentration=concentration)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(COUNT))
    expected = 1 / math.tanh(concentration) - 1 / concentration
    assert z.mean(0).norm().item() == pytest.approx(expected, rel=0.01)
    torch.testing.assert_close(F.normalize(z.mean(0), dim=0), mean[0], atol=0.02, rtol=0)


def test_von_mises_fisher_in_three_dimensions_has_an_exponential_cosine():
    """P(w < t) = (exp(k t) - exp(-k)) / (exp(k) - exp(-k))."""
    mean = torch.tensor([[0.0, 0.0, 1.0]]).expand(COUNT, 3)
    z = von_mises_fisher(mean, generator(), concentration=2.0)
    for t in (-0.5, 0.0, 0.5, 0.9):
        exact = (math.exp(2 * t) - math.exp(-2)) / (math.exp(2) - math.exp(-2))
        assert (z[:, 2] < t).double().mean().item() == pytest.approx(exact, abs=0.008)
    angle = torch.atan2(z[:, 1], z[:, 0])
    assert ((angle > 0) & (angle < math.pi / 2)).double().mean().item() == pytest.approx(
        0.25, abs=0.008
    )


@pytest.mark.parametrize("draw", [laplace_in_box, normal_in_box])
@pytest.mark.parametrize("place", [0.5, 0.02])
def test_draws_in_the_box_are_those_that_rejection_keeps(draw, place):
    center = torch.full((COUNT, 1), place)
    z = draw(center, generator(), scale=0.1).flatten()
    torch.manual_seed(0)
    if draw is laplace_in_box:
        free = torch.distributions.Laplace(place, 0.1).sample((4 * COUNT,))
    else:
        free = torch.distributions.Normal(place, 0.1).sample((4 * COUNT,))
    kept = free[(free > 0) & (free < 1)]
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        assert z.quantile(share).item() == pytest.approx(kept.quantile(share).item(), abs=0.006)
    assert (z == 0).sum() < 10, "clamped, not truncated"


def test_views_are_mixed_pairs_that_need_no_data():
    spec = Factors(dim=5, space=Sphere(), layers=2).spec()
    views = FactorPairs(partial(von_mises_fisher, concentration=50.0)).fit(spec)
    index = torch.arange(8)
    batch = views({"views": [torch.zeros(8, 5)], "index": index}, SampleGenerator(0, 3, index))
    assert set(batch) == {"views", "index"}
    z = spec.space.uniform(SampleGenerator(0, 3, index), 5)
    torch.testing.assert_close(batch["views"][0], mix(z, spec))
    other = views({"views": [torch.zeros(8, 5)], "index": index}, SampleGenerator(0, 4, index))
    assert not torch.equal(other["views"][0], batch["views"][0]), "each epoch draws anew"
    part = views({"views": [], "index": index[5:]}, SampleGenerator(0, 3, index[5:]))
    for one, whole in zip(part["views"], batch["views"], strict=True):
        torch.testing.assert_close(one, whole[5:])


def test_pairs_are_near_each_other_in_the_box():
    spec = Factors(dim=3, space=Box(), layers=1).spec()
    z = spec.space.uniform(generator(1000), 3)
    near = laplace_in_box(z, generator(1000), scale=0.05)
    assert 0.02 < (near - z).abs().mean() < 0.06
    assert near.min() >= 0
    assert near.max() <= 1
