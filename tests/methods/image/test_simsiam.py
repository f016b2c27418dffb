from functools import partial

import pytest
import torch
from torch import nn

from unlabeled.methods.image import simsiam
from unlabeled.methods.image.simsiam import SimSiam


def loss_of(method, batch):
    (value,) = method.loss(batch).values()
    return value


@pytest.mark.parametrize(("factor", "expected"), [(5.0, -1.0), (-5.0, 1.0), (0.0, 0.0)])
def test_range_of_the_loss(given, pair, factor, expected):
    method = SimSiam(given(2), dim=4, bottleneck=2)
    method.projector, method.predictor = nn.Identity(), nn.Identity()
    one = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    two = factor * one if factor else one.flip(1) * torch.tensor([1.0, -1.0])
    assert loss_of(method, pair(one, two)).item() == pytest.approx(expected, abs=1e-6)


def test_no_gradient_flows_through_the_target(encoder, views):
    """With the predictor's input cut, nothing is left for encoder and projector."""
    method = SimSiam(encoder, dim=16, bottleneck=4)
    batch = views(6)
    hook = method.predictor.register_forward_pre_hook(lambda m, x: (x[0].detach(),))
    loss_of(method, batch).backward()
    assert all(value.grad is None for value in method.encoder.parameters())
    assert all(value.grad is None for value in method.projector.parameters())
    assert any(value.grad.abs().sum() > 0 for value in method.predictor.parameters())
    hook.remove()
    loss_of(method, batch).backward()
    assert all(value.grad is not None for value in method.parameters())
    assert method.encoder.net.stem[0].weight.grad.abs().sum() > 0


def test_symmetric_in_the_views(encoder, views):
    method = SimSiam(encoder, dim=16, bottleneck=4).double()
    one, two = (view.double() for view in views(6)["views"])
    index = torch.arange(6)
    value = loss_of(method, {"views": [one, two], "index": index})
    torch.testing.assert_close(loss_of(method, {"views": [two, one], "index": index}), value)


def test_heads_are_the_papers(encoder):
    method = SimSiam(encoder)
    linears = [layer for layer in method.projector if isinstance(layer, nn.Linear)]
    norms = [layer for layer in method.projector if isinstance(layer, nn.BatchNorm1d)]
    assert [layer.weight.shape for layer in linears] == [(2048, 16), (2048, 2048), (2048, 2048)]
    assert all(layer.bias is None for layer in linears)
    assert [norm.affine for norm in norms] == [True, True, False]
    assert isinstance(method.projector[-1], nn.BatchNorm1d)
    assert [type(layer) for layer in method.predictor] == [
        nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear,
    ]  # fmt: skip
    assert method.predictor[0].bias is None
    assert method.predictor[3].bias is not None
    assert method.predictor[0].weight.shape == (512, 2048)


def test_the_predictors_rate_stays_while_the_others_decay(groups_during):
    steps = groups_during(simsiam.paper(), partial(SimSiam, dim=16, bottleneck=4), steps=4)
    full = 0.05 * 16 / 256
    for number, groups in enumerate(steps):
        cosine = full * (1 + torch.cos(torch.tensor(torch.pi * number / 4)).item()) / 2
        for name, group in groups.items():
            expected = full if name.startswith("predictor.") else cosine
            assert group["lr"] == pytest.approx(expected), (number, name)
            assert group["weight_decay"] == 1e-4, name
    assert any(name.startswith("predictor.") for name in steps[0])


def test_residual_branches_of_the_paper_start_at_zero():
    net = simsiam.paper().build().encoder.net
    assert not net.layer4[0].bn3.weight.any()
