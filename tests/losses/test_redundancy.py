import pytest
import torch

from unlabeled.losses.redundancy import (
    barlow_twins,
    covariance_penalty,
    variance_hinge,
    vicreg,
)


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


def slow_vicreg(z1, z2, invariance, variance, covariance, eps):
    batch, dim = z1.shape
    total = invariance * sum((z1[b, j] - z2[b, j]) ** 2 for b in range(batch) for j in range(dim))
    total = total / (batch * dim)
    for z in (z1, z2):
        mean = sum(z) / batch
        cov = sum(torch.outer(row - mean, row - mean) for row in z) / (batch - 1)
        for i in range(dim):
            hinge = (1 - (cov[i, i] + eps).sqrt()).clamp(min=0)
            total = total + variance * hinge / dim / 2
            for j in range(dim):
                if i != j:
                    total = total + covariance * cov[i, j] ** 2 / dim
    return total


@pytest.mark.parametrize("shape", [(9, 4), (4, 9), (5, 5), (2, 3)])
@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0, 1e-4), (0.3, 2.0, 0.7, 0.1)])
def test_vicreg_equals_the_loop(shape, weights):
    z1, z2 = 0.8 * randn(*shape), 0.8 * randn(*shape, seed=1)
    keys = ("invariance", "variance", "covariance", "eps")
    loss = vicreg(z1, z2, **dict(zip(keys, weights, strict=True)))
    torch.testing.assert_close(loss, slow_vicreg(z1, z2, *weights))


@pytest.mark.parametrize("shape", [(6, 3), (3, 6)])
def test_vicreg_gradient(shape):
    z1, z2 = randn(*shape).requires_grad_(), randn(*shape, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: vicreg(a, b, eps=0.01), (z1, z2))
    z = torch.zeros(shape, requires_grad=True)  # collapsed: a square root at eps, still smooth
    vicreg(z, z).backward()
    assert z.grad.isfinite().all()


def test_vicreg_closed_forms():
    z = hadamard(8)[:, 1:5]  # balanced, uncorrelated columns of unit variance 8/7
    assert vicreg(z, z).item() == pytest.approx(0, abs=1e-6)
    assert vicreg(z, -z).item() == pytest.approx(25 * 4)
    assert variance_hinge(z / 2).item() == pytest.approx(1 - (2 / 7) ** 0.5, abs=1e-3)
    same = hadamard(8)[:, 1:2].expand(8, 4)
    assert covariance_penalty(same).item() == pytest.approx(3 * (8 / 7) ** 2, rel=1e-6)
    assert covariance_penalty(same.repeat(1, 4)).item() == pytest.approx(15 * (8 / 7) ** 2)
    collapsed = torch.ones(8, 4)
    assert vicreg(collapsed, collapsed).item() == pytest.approx(25 * (1 - 1e-2))


def test_vicreg_laws_and_errors():
    z1, z2 = randn(12, 5), randn(12, 5, seed=1)
    loss = vicreg(z1, z2)
    order = torch.arange(12).roll(5)
    torch.testing.assert_close(vicreg(z2, z1), loss)
    torch.testing.assert_close(vicreg(z1[order] + 3, z2[order] + 3), loss)
    torch.testing.assert_close(covariance_penalty(2 * z1), 16 * covariance_penalty(z1))
    full = vicreg(z1.float(), z2.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(vicreg(z1.float(), z2.float()), full)
        assert vicreg(z1.bfloat16(), z2.bfloat16()).dtype == torch.float32
    z1[0, 0] = float("nan")
    assert vicreg(z1, z2).isnan()
    assert barlow_twins(z1, z2).isnan()
    with pytest.raises(ValueError, match=r"\[12, 5\] and \[6, 5\]"):
        vicreg(z1, z2[:6])
    with pytest.raises(ValueError, match="batch has 1 sample"):
        vicreg(z1[:1], z2[:1])
