import pytest
import torch
from torch import nn

from unlabeled.methods.image import moco, moco_v2
from unlabeled.methods.image.moco import MoCo
from unlabeled.methods.image.moco_v2 import mlp_head
from unlabeled.schedule import Clock


@pytest.mark.parametrize(("keys", "expected"), [(65536, 6.0926), (4096, 3.3534)])
def test_even_perfect_keys_leave_a_loss_at_this_temperature(given, no_head, pair, keys, expected):
    method = MoCo(given(2), head=no_head, dim=2, queue=keys, temperature=0.2)
    method.queue.rows.copy_(torch.tensor([0.0, 1.0]).expand(keys, 2))
    z = torch.tensor([[1.0, 0.0]])
    (value,) = method.loss(pair(z, z)).values()
    assert value.item() == pytest.approx(expected, abs=1e-4)


def test_the_head_has_biases_and_no_norm_and_the_teacher_has_it_too(encoder):
    method = MoCo(encoder, head=mlp_head, dim=8, queue=16)
    for head in (method.projector, method.teacher.module[1]):
        assert [type(layer) for layer in head] == [nn.Linear, nn.ReLU, nn.Linear]
        assert head[0].weight.shape == (16, 16)
        assert head[0].bias is not None
        assert head[2].bias is not None


def test_after_some_steps_the_teacher_is_the_closed_average(encoder):
    method = MoCo(encoder, head=mlp_head, dim=8, queue=16, momentum=0.7).double()
    weight = method.projector[2].weight
    expected = weight.detach().clone() * 0.7**4
    for number in range(4):
        with torch.no_grad():
            weight.add_(torch.randn_like(weight))
        expected += 0.3 * 0.7 ** (3 - number) * weight.detach()
        method.after_step()
    torch.testing.assert_close(method.teacher.module[1][2].weight, expected)


def test_it_differs_from_moco_in_four_things():
    one, two = moco.paper(), moco_v2.paper()
    assert one.method.func is two.method.func is MoCo
    assert two.method.keywords == {"head": mlp_head, "temperature": 0.2}
    assert [two.optim.lr(Clock(step, 4, 1)) for step in (0, 2, 4)] == pytest.approx(
        [0.03, 0.015, 0]
    )
    augment = two.views.first
    assert (augment.hue, augment.jitter, augment.blur, augment.scale) == (0.1, 0.8, 0.5, (0.2, 1))
    assert two.views.second is None
    assert (one.data, one.batch_size, one.encoder.keywords) == (
        two.data, two.batch_size, two.encoder.keywords,
    )  # fmt: skip
    assert two.sync_batchnorm is False
