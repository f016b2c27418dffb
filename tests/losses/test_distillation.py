import pytest
import torch

from unlabeled.losses.distillation import negative_cosine, regression

EAST, NORTH = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.5]])


def both_ways(p1, z1, p2, z2):
    """BYOL's symmetric objective."""
    return (regression(p1, z2) + regression(p2, z1)).item()


def test_byol_closed_forms():
    assert both_ways(EAST, 3 * EAST, EAST, EAST) == pytest.approx(0, abs=1e-6)
    assert both_ways(EAST, NORTH, EAST, NORTH) == pytest.approx(4)
    assert both_ways(EAST, -EAST, EAST, -EAST) == pytest.approx(8)


def test_simsiam_closed_forms():
    assert negative_cosine(EAST, 5 * EAST).item() == pytest.approx(-1)
    assert negative_cosine(EAST, NORTH).item() == pytest.approx(0)
    assert negative_cosine(EAST, -EAST).item() == pytest.approx(1)


@pytest.mark.parametrize("loss", [regression, negative_cosine])
def test_equals_the_loop_and_ignores_scale(loss):
    p, z = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    total = 0.0
    for one, other in zip(p, z, strict=True):
        if loss is regression:
            total += (one / one.norm() - other / other.norm()).square().sum() / 5
        else:
            total -= one @ other / (one.norm() * other.norm()) / 5
    torch.testing.assert_close(loss(p, z), total)
    torch.testing.assert_close(loss(0.1 * p, 7 * z), total)


@pytest.mark.parametrize("loss", [regression, negative_cosine])
def test_gradient(loss):
    p = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    z = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss(x, z.detach()), (p,))
    loss(p, z).backward()
    assert z.grad is None
    assert p.grad.abs().sum() > 0
    torch.testing.assert_close((p.grad * p).sum(1), torch.zeros(5, dtype=torch.float64))


def test_float32_under_autocast_and_shapes():
    p, z = torch.randn(4, 8), torch.randn(4, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(regression(p, z), regression(p, z).float())
        assert regression(p.bfloat16(), z.bfloat16()).dtype == torch.float32
    with pytest.raises(ValueError, match=r"\[4, 8\] and \[1, 8\]"):
        negative_cosine(p, z[:1])
