import pytest
import torch

from unlabeled.losses.redundancy import barlow_twins


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def hadamard(order):
    if order == 1:
        return torch.ones(1, 1)
    half = hadamard(order // 2)
    return torch.cat([torch.cat([half, half], 1), torch.cat([half, -half], 1)])


def slow(z1, z2, lambd, eps):
    batch, dim = z1.shape
    correlation = torch.zeros(dim, dim, dtype=z1.dtype)
    for i in range(dim):
        for j in range(dim):
            a, b = z1[:, i], z2[:, j]
            a = (a - a.mean()) / (((a - a.mean()) ** 2).mean() + eps).sqrt()
            b = (b - b.mean()) / (((b - b.mean()) ** 2).mean() + eps).sqrt()
            correlation[i, j] = (a * b).sum() / batch
    total = 0.0
    for i in range(dim):
        for j in range(dim):
            value = correlation[i, j]
            total += (1 - value) ** 2 if i == j else lambd * value**2
    return total


@pytest.mark.parametrize("shape", [(9, 4), (4, 9), (5, 5)])  # matrix, Gram, and the border
def test_equals_the_loop(shape):
    z1, z2 = randn(*shape), randn(*shape, seed=1)
    for lambd, eps in ((0.0051, 1e-5), (0.3, 0.1)):
        expected = slow(z1, z2, lambd, eps)
        torch.testing.assert_close(barlow_twins(z1, z2, lambd=lambd, eps=eps), expected)


@pytest.mark.parametrize("shape", [(6, 3), (3, 6)])
def test_gradient_reaches_both_views(shape):
    z1, z2 = randn(*shape).requires_grad_(), randn(*shape, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: barlow_twins(a, b, lambd=0.1, eps=0.01), (z1, z2))
    barlow_twins(z1, z2).backward()
    assert z1.grad.abs().sum() > 0
    assert z2.grad.abs().sum() > 0


def test_closed_forms():
    z = hadamard(8)[:, 1:5]  # four balanced, uncorrelated columns
    assert barlow_twins(z, z).item() == pytest.approx(0, abs=1e-4)
    assert barlow_twins(z, -z).item() == pytest.approx(4 * 4, abs=1e-3)
    same = hadamard(8)[:, 1:2].expand(8, 4)
    assert barlow_twins(same, same).item() == pytest.approx(0.0051 * 4 * 3, abs=1e-4)
    far = randn(20000, 16), randn(20000, 16, seed=1)
    assert barlow_twins(*far).item() == pytest.approx(16, rel=0.05)
    assert barlow_twins(torch.ones(8, 4), torch.ones(8, 4)).item() == 4  # collapsed


def test_invariances():
    z1, z2 = randn(12, 5), randn(12, 5, seed=1)
    loss = barlow_twins(z1, z2, eps=0)
    order = torch.arange(12).roll(5)
    torch.testing.assert_close(barlow_twins(z2, z1, eps=0), loss)
    torch.testing.assert_close(barlow_twins(z1[order], z2[order], eps=0), loss)
    scale = torch.tensor([1.0, 2.0, 0.1, 30.0, 5.0], dtype=torch.float64)
    torch.testing.assert_close(barlow_twins(z1 * scale + 3, z2, eps=0), loss)
    assert (barlow_twins(z1, z2[order], eps=0) - loss).abs() > 0.01


def test_float32_under_autocast_and_shapes():
    z1, z2 = randn(12, 5).float(), randn(12, 5, seed=1).float()
    loss = barlow_twins(z1, z2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(barlow_twins(z1, z2), loss)
        assert barlow_twins(z1.bfloat16(), z2.bfloat16()).dtype == torch.float32
    with pytest.raises(ValueError, match=r"\[12, 5\] and \[6, 5\]"):
        barlow_twins(z1, z2[:6])
