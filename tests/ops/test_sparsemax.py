import pytest
import torch

from unlabeled.ops.sparsemax import sparsemax


def slow(z):
    """The projection on the simplex, by bisection of its threshold."""
    low, high = float(z.min()) - 1, float(z.max())
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (z - middle).clamp_min(0).sum() > 1 else (low, middle)
    return (z - low).clamp_min(0)


def test_the_closed_form():
    z = torch.tensor([0.5, 0.5, -1.0])
    assert sparsemax(z, torch.ones(3, dtype=torch.bool)).tolist() == [0.5, 0.5, 0.0]


def test_rows_of_all_lengths_equal_a_slow_projection_and_sum_to_one():
    torch.manual_seed(0)
    z = torch.randn(40, 9, dtype=torch.float64)
    mask = torch.rand(40, 9) < 0.6
    mask[0] = False
    found = sparsemax(z, mask)
    assert found[0].abs().sum() == 0
    for row in range(1, 40):
        if mask[row].any():
            torch.testing.assert_close(found[row][mask[row]], slow(z[row][mask[row]]))
            assert found[row].sum().item() == pytest.approx(1)
    assert (found[~mask] == 0).all()


def test_its_gradient():
    torch.manual_seed(0)
    z = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(4, 6, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda z: sparsemax(z, mask), z)
