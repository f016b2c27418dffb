import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.sincos_vit import sincos_vit
from unlabeled.methods.image import moco_v3
from unlabeled.methods.image.moco_v3 import MoCoV3, contrast, resnet_heads, vit_heads
from unlabeled.nn.ema import Ema
from unlabeled.schedule import Clock

SPEC = ImageSpec(channels=1, size=16, mean=(0.5,), std=(0.5,))


def loss_of(method, batch):
    (value,) = method.loss(batch).values()
    return value


def bare(encoder, **options):
    method = MoCoV3(encoder, hidden=4, dim=encoder.dim, **options)
    method.projector, method.predictor = nn.Identity(), nn.Identity()
    method.teacher = Ema(nn.Identity())
    return method


@pytest.mark.parametrize(("temperature", "expected"), [(0.2, 1.66355), (1.0, 8.31777)])
def test_equal_similarities_give_four_tau_log_n(given, pair, temperature, expected):
    z = torch.tensor([[0.6, 0.8]]).repeat(8, 1)
    value = loss_of(bare(given(2), temperature=temperature), pair(z, 3 * z)).item()
    assert value == pytest.approx(expected, abs=1e-4)
    assert value == pytest.approx(4 * temperature * math.log(8), rel=1e-5)


def test_aligned_positives_among_orthogonal_others(given, pair):
    value = loss_of(bare(given(8)), pair(torch.eye(8), torch.eye(8))).item()
    assert value == pytest.approx(0.036870, abs=1e-5)


def test_equals_a_slow_loop_over_the_keys_of_the_other_view():
    t, q, k = 0.3, torch.randn(5, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    value = contrast(q, k, temperature=t)
    total = 0.0
    for i in range(5):
        scores = [math.exp(F.cosine_similarity(q[i], k[j], dim=0).item() / t) for j in range(5)]
        total -= math.log(scores[i] / sum(scores))
    assert value.item() == pytest.approx(2 * t * total / 5, rel=1e-5)
    value.backward()
    assert k.grad is None
    assert q.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="temperature is 0"):
        contrast(q, k, temperature=0.0)


def test_the_two_directions_are_added_and_negatives_are_keys_only(given, pair):
    one, two = torch.randn(6, 4), torch.randn(6, 4)
    value = loss_of(bare(given(4)), pair(one, two))
    sides = contrast(one, two, temperature=0.2) + contrast(two, one, temperature=0.2)
    torch.testing.assert_close(value, sides)


@pytest.mark.parametrize(("step", "momentum"), [(0, 0.99), (50, 0.995), (100, 1.0)])
def test_the_teacher_follows_all_but_the_predictor(encoder, step, momentum):
    method = MoCoV3(encoder, hidden=16, dim=8, momentum=0.99).double()
    count = len(list(method.encoder.parameters())) + len(list(method.projector.parameters()))
    before = [value.clone() for value in method.teacher.parameters()]
    assert len(before) == count
    with torch.no_grad():
        for value in method.parameters():
            if value.requires_grad:
                value.add_(1.0)
    method.clock = Clock(step, 100, 10)
    method.after_step()
    for value, old in zip(method.teacher.parameters(), before, strict=True):
        expected = torch.full_like(value, 1 - momentum)
        torch.testing.assert_close(value - old, expected, rtol=0, atol=5e-7)


def test_gradient_reaches_the_student_only(encoder, views):
    method = MoCoV3(encoder, hidden=16, dim=8, heads=resnet_heads)
    loss_of(method, views(6)).backward()
    for part in (method.encoder, method.projector, method.predictor):
        assert any(value.grad.abs().sum() > 0 for value in part.parameters())
    assert not any(value.requires_grad for value in method.teacher.parameters())


def test_heads_are_the_official_ones():
    linear, norm, relu = nn.Linear, nn.BatchNorm1d, nn.ReLU
    hidden = [linear, norm, relu]
    layouts = {
        vit_heads: ([*hidden, *hidden, linear, norm], [*hidden, linear, norm]),
        resnet_heads: ([*hidden, linear, norm], [*hidden, linear]),
    }
    for build, layout in layouts.items():
        for head, kinds in zip(build(12, 16, 8), layout, strict=True):
            assert [type(layer) for layer in head] == kinds
            assert all(layer.bias is None for layer in head if isinstance(layer, linear))
            if kinds[-1] is norm:
                assert not head[-1].affine


def test_patches_stay_as_they_were_while_all_else_moves():
    torch.manual_seed(0)
    encoder = sincos_vit(SPEC, dim=24, depth=1, heads=3, patch=4)
    method = MoCoV3(encoder, hidden=16, dim=8)
    before = {name: value.clone() for name, value in method.encoder.named_parameters()}
    learned = [value for value in method.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        batch = {"views": [torch.randn(8, 1, 16, 16) for _ in range(2)], "index": torch.arange(8)}
        optimizer.zero_grad()
        loss_of(method, batch).backward()
        optimizer.step()
    fixed = {"net.pos_embed", "net.patch_embed.proj.weight", "net.patch_embed.proj.bias"}
    for name, value in method.encoder.named_parameters():
        assert torch.equal(value, before[name]) == (name in fixed), name


def test_the_lists_figure_is_a_vit_bn_large_of_patches_of_7():
    with torch.device("meta"):
        encoder = moco_v3.bn_paper().fitted().build().encoder
    assert encoder.local_dim == 1024
    assert encoder.net.patch_embed.num_patches == 32 * 32
    assert sum(value.numel() for value in encoder.parameters()) == pytest.approx(304e6, rel=0.01)


def test_recipes_are_the_papers():
    recipe = moco_v3.paper()
    assert (recipe.epochs, recipe.batch_size) == (300, 4096)
    rates = [recipe.optim.lr(Clock(epoch, 300, 1)) for epoch in (0, 20, 40, 170, 300)]
    assert rates == pytest.approx([0, 0.75e-4, 1.5e-4, 0.75e-4, 0], abs=1e-12)
    first, second = recipe.views.first, recipe.views.second
    assert (first.blur, first.solarize, second.blur, second.solarize) == (1.0, 0.0, 0.1, 0.2)
    for make in (moco_v3.paper, moco_v3.resnet_paper, moco_v3.vit_small):
        with torch.device("meta"):
            method = make().build()
        assert isinstance(method, MoCoV3)
    assert moco_v3.resnet_paper().views.first.scale == (0.2, 1.0)
