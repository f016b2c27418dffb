import math

import pytest
import torch

from unlabeled.losses.information import donsker_varadhan, jensen_shannon, nwj


def test_jensen_shannon_at_zero_is_2_log_2():
    value = jensen_shannon(torch.zeros(3), torch.zeros(3, 4))
    assert value.item() == pytest.approx(2 * math.log(2))


def test_nwj_at_one_is_zero():
    assert nwj(torch.ones(3), torch.ones(3, 4)).item() == pytest.approx(0)


def test_donsker_varadhan_of_constants_is_zero():
    assert donsker_varadhan(torch.full((3,), 2.5), torch.full((3, 4), 2.5)).item() == (
        pytest.approx(0, abs=1e-6)
    )


def test_bounds_find_the_information_of_correlated_gaussians():
    """With the exact log density ratio as critic both bounds are near -1/2 log(1 - rho^2)."""
    generator = torch.Generator().manual_seed(0)
    rho, count = 0.8, 20_000
    x = torch.randn(count, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, generator=generator, dtype=torch.float64)
    y = rho * x + (1 - rho**2) ** 0.5 * noise

    def ratio(a, b):
        joint = (a * a - 2 * rho * a * b + b * b) / (1 - rho**2)
        return -0.5 * math.log(1 - rho**2) - 0.5 * (joint - a * a - b * b)

    truth = -0.5 * math.log(1 - rho**2)
    positives, negatives = ratio(x, y), ratio(x, y.roll(1))
    assert -donsker_varadhan(positives, negatives).item() == pytest.approx(truth, abs=0.05)
    assert -nwj(positives + 1, negatives + 1).item() == pytest.approx(truth, abs=0.05)


@pytest.mark.parametrize("loss", [jensen_shannon, donsker_varadhan, nwj])
def test_gradients(loss):
    scores = torch.randn(6, dtype=torch.float64).requires_grad_()
    torch.autograd.gradcheck(lambda s: loss(s[:2], s[2:]), (scores,))
    (gradient,) = torch.autograd.grad(loss(scores[:2], scores[2:]), scores)
    assert (gradient[:2] < 0).all()  # positives are to rise
    assert (gradient[2:] > 0).all()
