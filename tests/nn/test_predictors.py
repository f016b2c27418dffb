import math

import pytest
import torch

from unlabeled.losses.prediction import future_nce
from unlabeled.nn.predictors import StepPredictors


def test_each_step_has_its_own_map_and_the_mean_over_its_places():
    torch.manual_seed(0)
    predictors = StepPredictors(6, 4, steps=(1, 3)).double()
    context = torch.randn(2, 6, 5, 2, dtype=torch.float64)
    latent = torch.randn(2, 4, 5, 2, dtype=torch.float64)
    values = predictors(context, latent)
    for value, step, layer in zip(values, (1, 3), predictors.maps, strict=True):
        weight = layer.weight[:, :, 0, 0]
        prediction = torch.einsum("dc,bcts->bdts", weight, context[:, :, :-step])
        torch.testing.assert_close(value, future_nce(prediction, latent, step=step))
    values.sum().backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in predictors.maps)
    assert all(layer.bias is None for layer in predictors.maps)


def test_scale_and_bias():
    predictors = StepPredictors(6, 4, steps=(2,), bias=True, scale=0.0)
    value = predictors(torch.randn(3, 6, 4, 1), torch.randn(3, 4, 4, 1))
    assert value.item() == pytest.approx(math.log(12))
    assert predictors.maps[0].bias is not None


@pytest.mark.parametrize("steps", [(), (0, 1)])
def test_steps_must_be_positive(steps):
    with pytest.raises(ValueError, match="give steps of at least 1"):
        StepPredictors(4, 4, steps=steps)


def test_the_bound_on_the_information_of_a_known_sequence():
    """log N - L stays below, and comes close to, -log(1 - rho^2) / 2 of an AR(1) sequence.

    With the best scores, the log ratio of densities, up to what is common to all candidates.
    """
    generator = torch.Generator().manual_seed(0)
    rho, pairs = 0.9, 64
    bounds = []
    for _ in range(200):
        now = torch.randn(pairs, generator=generator, dtype=torch.float64)
        noise = torch.randn(pairs, generator=generator, dtype=torch.float64)
        later = rho * now + math.sqrt(1 - rho**2) * noise
        # -(z' - rho z)^2 / 2(1 - rho^2) + z'^2 / 2 as a product of two vectors
        a = torch.stack([rho * now, torch.ones_like(now)], 1) / (1 - rho**2)
        b = torch.stack([later, -(rho**2) * later.square() / 2], 1)
        loss = torch.nn.functional.cross_entropy(a @ b.T, torch.arange(pairs))
        bounds.append(math.log(pairs) - loss.item())
    truth = -0.5 * math.log(1 - rho**2)
    assert truth - 0.1 < sum(bounds) / len(bounds) < truth
