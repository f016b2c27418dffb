"""The identities of 2010.00578 on a small ReLU network, in float64."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from unlabeled.ops.covariance_operator import CovarianceOperator, simple_loss

SAMPLES, VIEWS = 7, 3


def network(*widths, bias=False, seed=0):
    torch.manual_seed(seed)
    layers = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


@pytest.fixture
def views():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(SAMPLES, 1, 5, generator=generator, dtype=torch.float64)
    return x + 0.3 * torch.randn(SAMPLES, VIEWS, 5, generator=generator, dtype=torch.float64)


def connections(net, name, views):
    """K of each view, formed: [N, M, weights, outputs]."""
    operator = CovarianceOperator(net, name, views)
    size = net.get_parameter(name).numel()
    basis = torch.eye(size, dtype=torch.float64).view(size, *net.get_parameter(name).shape)
    return torch.stack([operator.outputs(each) for each in basis], 2)


@pytest.mark.parametrize("name", ["0.weight", "2.weight", "4.weight"])
def test_the_gradient_is_minus_twice_the_operator_times_the_weights(views, name):
    net = network(5, 6, 4, 3)
    weight = net.get_parameter(name)
    loss = simple_loss(net(views.flatten(0, 1)).unflatten(0, (SAMPLES, VIEWS)))
    (slope,) = torch.autograd.grad(loss, weight)
    operator = CovarianceOperator(net, name, views)
    torch.testing.assert_close(slope, -2 * operator(weight.detach()), atol=1e-10, rtol=0)
    assert operator.alignment() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", ["0.weight", "4.weight"])
def test_products_are_those_of_the_matrix(views, name):
    net = network(5, 6, 4, 3)
    k = connections(net, name, views)
    mean = k.mean(1)
    centered = mean - mean.mean(0)
    v = torch.einsum("nwd,nvd->wv", centered, centered) / SAMPLES
    torch.testing.assert_close(v, v.T, atol=1e-12, rtol=0)
    values = torch.linalg.eigvalsh(v)
    assert values.min() >= -1e-12
    operator = CovarianceOperator(net, name, views)
    direction = torch.randn_like(net.get_parameter(name).detach())
    torch.testing.assert_close(operator(direction).flatten(), v @ direction.flatten())
    generator = torch.Generator().manual_seed(0)
    assert operator.top(steps=300, generator=generator) == pytest.approx(float(values.max()))
    between, whole = operator.shares(probes=3000, generator=generator)
    flat = (k - k.mean((0, 1))).flatten(0, 1)
    assert between == pytest.approx(float(v.trace()), rel=0.1)
    assert whole == pytest.approx(float(flat.square().sum() / (SAMPLES * VIEWS)), rel=0.1)
    assert between < whole


def test_the_network_is_its_connection_times_its_weights(views):
    net = network(5, 6, 4, 3)
    for name, weight in net.named_parameters():
        found = CovarianceOperator(net, name, views).outputs(weight.detach())
        torch.testing.assert_close(found.flatten(0, 1), net(views.flatten(0, 1)))


def test_augmentations_that_hide_the_sample_leave_no_gradient():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(1, VIEWS, 5, generator=generator, dtype=torch.float64)
    views = drawn.expand(SAMPLES, -1, -1)  # the same views whatever the sample
    net = network(5, 6, 3)
    loss = simple_loss(net(views.flatten(0, 1)).unflatten(0, (SAMPLES, VIEWS)))
    for slope in torch.autograd.grad(loss, list(net.parameters())):
        assert slope.abs().max() < 1e-12


def test_without_augmentation_only_negatives_count(views):
    net = network(5, 6, 3)
    out = net(views[:, 0])[:, None]
    far = (out - out.transpose(0, 1)).square().sum(2) / 2
    assert float(simple_loss(out)) == pytest.approx(-float(far.mean()))


def test_with_biases_the_identity_fails(views):
    net = network(5, 6, 4, 3, bias=True)
    assert CovarianceOperator(net, "0.weight", views).alignment() < 1 - 1e-6
