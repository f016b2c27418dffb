import copy

import pytest
import torch
from torch import nn

from unlabeled.nn.optim import Larc, Lars

RATES = [0.5, 0.5, 0.2, 0.1]


def start():
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(3, 2, generator=generator), torch.randn(4, generator=generator)]
    weights.append(torch.zeros(2))  # a fresh bias: norm 0
    gradients = [[torch.randn(w.shape, generator=generator) for w in weights] for _ in RATES]
    gradients[1][0].zero_()  # a step without gradient
    return [w.double() for w in weights], [[g.double() for g in step] for step in gradients]


def run(kind, weights, gradients, groups, **options):
    parameters = [nn.Parameter(w.clone()) for w in weights]
    optimizer = kind(
        [{"params": [p], **group} for p, group in zip(parameters, groups, strict=True)], **options
    )
    for rate, step in zip(RATES, gradients, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return [p.detach() for p in parameters]


def slow_lars(weight, gradients, *, momentum, decay, trust, nesterov, adapt):
    weight, velocity = weight.clone(), torch.zeros_like(weight)
    for rate, gradient in zip(RATES, gradients, strict=True):
        direction = gradient + decay * weight
        if adapt and weight.norm() > 0 and direction.norm() > 0:
            direction = direction * trust * weight.norm() / direction.norm()
        velocity = momentum * velocity + direction
        weight = weight - rate * (direction + momentum * velocity if nesterov else velocity)
    return weight


def slow_larc(weight, gradients, *, momentum, decay, trust, adapt):
    weight, velocity = weight.clone(), torch.zeros_like(weight)
    for rate, gradient in zip(RATES, gradients, strict=True):
        if not adapt:
            direction = gradient + decay * weight
        elif weight.norm() > 0 and gradient.norm() > 0:
            scale = trust * weight.norm() / (gradient.norm() + decay * weight.norm() + 1e-8)
            direction = (gradient + decay * weight) * scale
        else:
            direction = gradient
        velocity = momentum * velocity + direction
        weight = weight - rate * velocity
    return weight


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("adapt", [[True, True, True], [True, False, False]])
def test_lars_equals_the_loop(nesterov, adapt):
    weights, gradients = start()
    groups = [{"adapt": flag} for flag in adapt]
    options = {"momentum": 0.9, "weight_decay": 0.1, "trust": 0.02}
    result = run(Lars, weights, gradients, groups, lr=1.0, nesterov=nesterov, **options)
    for place, value in enumerate(result):
        expected = slow_lars(
            weights[place],
            [step[place] for step in gradients],
            momentum=0.9,
            decay=0.1,
            trust=0.02,
            nesterov=nesterov,
            adapt=adapt[place],
        )
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("adapt", [[True, True, True], [True, False, False]])
def test_larc_equals_the_loop(adapt):
    weights, gradients = start()
    groups = [{"adapt": flag} for flag in adapt]
    options = {"momentum": 0.9, "weight_decay": 0.1, "trust": 0.02}
    result = run(Larc, weights, gradients, groups, lr=1.0, **options)
    for place, value in enumerate(result):
        expected = slow_larc(
            weights[place],
            [step[place] for step in gradients],
            momentum=0.9,
            decay=0.1,
            trust=0.02,
            adapt=adapt[place],
        )
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("kind", [Lars, Larc])
def test_without_adaptation_it_is_sgd(kind):
    weights, gradients = start()
    groups = [{"adapt": False}] * 3
    for momentum in (0.0, 0.9):
        options = {"lr": 1.0, "momentum": momentum, "weight_decay": 0.1}
        ours = run(kind, weights, gradients, groups, **options)
        sgd = run(torch.optim.SGD, weights, gradients, [{}] * 3, **options)
        torch.testing.assert_close(ours, sgd)


@pytest.mark.parametrize("kind", [Lars, Larc])
def test_the_step_ignores_the_gradients_scale(kind):
    weights, gradients = start()
    larger = [[100 * g for g in step] for step in gradients]
    options = {"lr": 1.0, "momentum": 0.9}
    one = run(kind, weights[:2], [s[:2] for s in gradients], [{}, {}], **options)
    other = run(kind, weights[:2], [s[:2] for s in larger], [{}, {}], **options)
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", [Lars, Larc])
def test_state_resumes_and_closure_counts(kind):
    weight = nn.Parameter(torch.ones(3))
    unused = nn.Parameter(torch.ones(2))
    optimizer = kind([weight, unused], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3
    gradient = weight.grad.clone()
    twin = nn.Parameter(weight.detach().clone())
    resumed = kind([twin, nn.Parameter(torch.ones(2))], lr=0.1)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    weight.grad, twin.grad = gradient, gradient.clone()
    optimizer.step()
    resumed.step()
    assert torch.equal(weight, twin)
    assert torch.equal(unused, torch.ones(2))


@pytest.mark.parametrize("kind", [Lars, Larc])
def test_negative_values_are_named(kind):
    for name in ("lr", "momentum", "weight_decay", "trust"):
        with pytest.raises(ValueError, match=f"{name} is -1"):
            kind([nn.Parameter(torch.ones(1))], **{name: -1})


def test_nesterov_needs_momentum():
    with pytest.raises(ValueError, match="nesterov needs momentum"):
        Lars([nn.Parameter(torch.ones(1))], momentum=0.0, nesterov=True)
