import pytest
import torch
from torch import nn

from unlabeled.methods.image import byol
from unlabeled.methods.image.byol import BYOL
from unlabeled.nn.ema import Ema
from unlabeled.schedule import Clock


def loss_of(method, batch):
    (value,) = method.loss(batch).values()
    return value


@pytest.mark.parametrize(("angle", "expected"), [(0, 0), (90, 4), (180, 8)])
def test_both_directions_are_summed(given, pair, angle, expected):
    method = BYOL(given(2), hidden=4, dim=2)
    method.projector, method.predictor = nn.Identity(), nn.Identity()
    method.teacher = Ema(nn.Identity())
    radian = torch.deg2rad(torch.tensor(float(angle)))
    one = torch.tensor([[1.0, 0.0]]).repeat(3, 1)
    two = torch.stack([radian.cos(), radian.sin()])[None].repeat(3, 1) * 9
    assert loss_of(method, pair(one, two)).item() == pytest.approx(expected, abs=1e-5)


def test_about_four_at_the_start(encoder, views):
    value = loss_of(BYOL(encoder, hidden=64, dim=256), views(16)).item()
    assert 3 < value < 5


@pytest.mark.parametrize(
    ("step", "momentum"), [(0, 0.996), (25, 0.996586), (50, 0.998), (100, 1.0)]
)
def test_the_target_moves_by_a_momentum_that_rises_to_one(encoder, step, momentum):
    method = BYOL(encoder, hidden=16, dim=8).double()
    before = {name: value.clone() for name, value in method.teacher.module.named_parameters()}
    buffers = {name: value.clone() for name, value in method.teacher.module.named_buffers()}
    with torch.no_grad():
        for value in method.student.parameters():
            value.add_(1)
    method.clock = Clock(step, 100, 10)
    method.after_step()
    for name, value in method.teacher.module.named_parameters():
        moved = torch.full_like(value, 1 - momentum)
        torch.testing.assert_close(value - before[name], moved, rtol=0, atol=5e-7)
    for name, value in method.teacher.module.named_buffers():
        assert torch.equal(value, buffers[name]), name


def test_only_the_online_network_predicts_and_learns(encoder, views):
    method = BYOL(encoder, hidden=16, dim=8)
    assert len(list(method.teacher.parameters())) == len(list(method.student.parameters()))
    loss_of(method, views(6)).backward()
    for part in (method.encoder, method.projector, method.predictor):
        assert all(value.grad is not None for value in part.parameters())
        assert any(value.grad.abs().sum() > 0 for value in part.parameters())
    for value in method.teacher.parameters():
        assert value.grad is None
        assert not value.requires_grad


def test_each_view_passes_both_networks_and_the_target_uses_batch_statistics(encoder, views):
    method = BYOL(encoder, hidden=16, dim=8)
    seen = {"online": [], "target": []}
    method.encoder.register_forward_hook(lambda m, x, y: seen["online"].append(x[0]))
    method.teacher.module[0].register_forward_hook(lambda m, x, y: seen["target"].append(x[0]))
    batch = views(4)
    statistics = method.teacher.module[0].net.stem[1].running_mean.clone()
    loss_of(method, batch)
    for inputs in seen.values():
        assert all(x is view for x, view in zip(inputs, batch["views"], strict=True))
    assert not torch.equal(method.teacher.module[0].net.stem[1].running_mean, statistics)


def test_loss_is_symmetric_and_its_gradient_orthogonal_to_the_prediction(encoder, views):
    method = BYOL(encoder, hidden=16, dim=8).double()
    one, two = (view.double() for view in views(4)["views"])
    index = torch.arange(4)
    predicted = []
    method.predictor.register_forward_hook(
        lambda m, x, p: (p.retain_grad(), predicted.append(p))[1]
    )
    value = loss_of(method, {"views": [one, two], "index": index})
    value.backward()
    for p in predicted:
        products = (p * p.grad).sum(1)
        torch.testing.assert_close(products, torch.zeros_like(products), rtol=0, atol=1e-12)
    swapped = loss_of(method, {"views": [two, one], "index": index})
    torch.testing.assert_close(swapped, value)


def test_heads_have_hidden_norms_and_biases_but_neither_at_the_output(encoder):
    method = BYOL(encoder)
    for head, width in ((method.projector, 16), (method.predictor, 256)):
        assert [type(layer) for layer in head] == [
            nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear,
        ]  # fmt: skip
        assert head[0].weight.shape == (4096, width)
        assert head[0].bias is not None
        assert head[3].weight.shape == (256, 4096)
        assert head[3].bias is None


def test_views_are_asymmetric():
    views = byol.paper().views
    assert (views.first.blur, views.first.solarize) == (1.0, 0.0)
    assert (views.second.blur, views.second.solarize) == (0.1, 0.2)
