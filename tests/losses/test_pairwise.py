import math

import pytest
import torch

from unlabeled.losses.pairwise import difference, distance_nce, exact_covariance, soft_triplet
from unlabeled.losses.similarities import info_nce_of

FAMILY = {
    "difference": difference,
    "nce": lambda p, n: distance_nce(p, n, temperature=0.3),
    "triplet": lambda p, n: soft_triplet(p, n, temperature=0.3),
    "exact": lambda p, n: exact_covariance(p, n, temperature=0.3),
}


def distances():
    generator = torch.Generator().manual_seed(0)
    positive = torch.rand(6, generator=generator, dtype=torch.float64, requires_grad=True)
    negatives = torch.rand(6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    return positive, negatives


@pytest.mark.parametrize("name", FAMILY)
def test_pulls_and_pushes_cancel(name):
    positive, negatives = distances()
    FAMILY[name](positive, negatives).backward()
    assert (positive.grad > 0).all()
    assert (negatives.grad < 0).all()
    if name == "difference":
        assert float(positive.grad.sum() + negatives.grad.sum()) == pytest.approx(0, abs=1e-12)
    else:
        assert (positive.grad + negatives.grad.sum(1)).abs().max() < 1e-12


def test_nce_of_equal_distances_pulls_with_half_over_t():
    r = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    distance_nce(r, torch.tensor([[0.7]], dtype=torch.float64), temperature=0.2).backward()
    assert r.grad.item() == pytest.approx(1 / (2 * 0.2))


def test_nce_of_unit_vectors_is_info_nce():
    cosines = torch.rand(5), torch.rand(5, 7)
    ours = distance_nce(1 - cosines[0], 1 - cosines[1], temperature=0.2)
    torch.testing.assert_close(ours, info_nce_of(*cosines, temperature=0.2))


def test_the_weights_of_the_exact_loss_are_constants():
    positive, negatives = distances()
    loss = exact_covariance(positive, negatives, temperature=0.5, beta=0.2)
    weight = 1 / (1 + (negatives.detach() / 0.5).exp()) / (0.5 * 4)
    expected = (1.2 * weight.sum(1) * positive - (weight * negatives).sum(1)).mean()
    assert loss.item() == pytest.approx(expected.item())
    loss.backward()
    torch.testing.assert_close(negatives.grad, -weight / 6)
    torch.testing.assert_close(positive.grad, 1.2 * weight.sum(1) / 6)


def test_soft_triplet_by_hand():
    value = soft_triplet(torch.tensor([0.5]), torch.tensor([[0.5, 0.5]]), temperature=2.0)
    assert value.item() == pytest.approx(2 * math.log(2))
