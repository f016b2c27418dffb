import math
from functools import partial

import pytest
import torch

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.vit import vit
from unlabeled.evaluators.attention import AttentionOverlap, jaccard, things, top_mass
from unlabeled.losses.distillation import dino_cross_entropy
from unlabeled.methods.image.dino import DINO
from unlabeled.nn.dino_head import DinoHead, WeightNormLinear
from unlabeled.nn.optim import ClippedAdamW
from unlabeled.schedule import Clock, constant

SPEC = ImageSpec(channels=1, size=16, mean=(0.5,), std=(0.5,))
BUILD = partial(vit, dim=24, depth=2, heads=3, patch=4)


def made(**options):
    torch.manual_seed(0)
    defaults = {"outputs": 32, "hidden": 16, "bottleneck": 8}
    defaults |= {"teacher_temperature": constant(0.04)}
    return DINO(BUILD(SPEC, drop_path=0.3), **{**defaults, **options})


def batch(count=4, small=2):
    large = [torch.randn(count, 1, 16, 16) for _ in range(2)]
    return {"views": large + [torch.randn(count, 1, 8, 8) for _ in range(small)],
            "index": torch.arange(count)}  # fmt: skip


def test_the_center_moves_by_a_tenth_of_the_raw_teacher_logits_after_the_loss():
    method, data = made(), batch()
    with torch.no_grad():
        raw = method.teacher(data["views"][:2])
    before = method.loss(data)["cross_entropy"]
    torch.testing.assert_close(method.center, 0.1 * raw.mean((0, 1)))
    fresh = made()
    student = fresh.student(data["views"][:2] + data["views"][2:])
    assert torch.isfinite(before)
    assert student.shape == (4, 4, 32)
    mean = torch.ones(32)
    center = torch.zeros(32)
    for _ in range(10):
        center = torch.lerp(mean, center, 0.9)
    assert center[0].item() == pytest.approx(1 - 0.9**10, abs=1e-6)


def test_targets_and_loss_of_the_notes_example():
    t = torch.tensor([0.1, 0.0, 0.0, 0.0])
    p = (t / 0.04).softmax(0)
    assert p[0].item() == pytest.approx(0.8024, abs=1e-4)
    student = t.view(1, 1, 4).expand(2, 1, 4).clone().requires_grad_()
    loss = dino_cross_entropy(
        student, t.view(1, 1, 4).expand(2, 1, 4), center=torch.zeros(4), teacher_temperature=0.04
    )
    assert loss.item() == pytest.approx(0.9413, abs=1e-4)


def test_local_crops_never_go_to_the_teacher():
    method, data = made(), batch(small=3)
    seen = []
    method.teacher.module.register_forward_pre_hook(lambda m, args: seen.append(len(args[0])))
    method.loss(data)
    assert seen == [2]


def test_the_last_layer_waits_for_the_first_epoch_and_the_rest_does_not():
    method, data = made(), batch()
    for step, still in ((9, True), (10, False)):
        method.zero_grad()
        method.clock = Clock(step, 100, 10)
        method.loss(data)["cross_entropy"].backward()
        gradient = method.student.head.last.direction.grad
        assert (gradient.abs().sum() == 0) == still
        assert method.student.head.layers[0].weight.grad.abs().sum() > 0
    assert all(value.grad is None for value in method.teacher.parameters())


def test_what_is_left_behind_is_the_teacher_without_stochastic_depth():
    method = made()
    assert method.encoder is method.teacher.module.encoder
    one = method.encoder.train()(torch.ones(2, 1, 16, 16))
    assert torch.equal(one, method.encoder(torch.ones(2, 1, 16, 16)))
    student = method.student.encoder.train()
    torch.manual_seed(0)
    assert not torch.equal(student(torch.ones(2, 1, 16, 16)), student(torch.ones(2, 1, 16, 16)))


def test_logits_are_cosines_unless_lengths_are_learned():
    head = DinoHead(12, 20, hidden=16, bottleneck=4)
    y = head(100 * torch.randn(50, 12))
    assert y.abs().max() <= 1 + 1e-6
    assert head.last.length is None
    longer = WeightNormLinear(4, 20, learn_length=True)
    with torch.no_grad():
        longer.length.mul_(3)
    z = torch.nn.functional.normalize(torch.randn(5, 4), dim=1)
    plain = torch.nn.functional.normalize(longer.direction, dim=1)
    torch.testing.assert_close(longer(z), 3 * z @ plain.T)


def test_attention_of_the_class_token_sums_to_one_for_every_size():
    encoder = BUILD(SPEC)
    weight = encoder.attention(torch.randn(2, 1, 16, 16))
    assert weight.shape == (2, 3, 17)
    torch.testing.assert_close(weight.sum(-1), torch.ones(2, 3))
    assert encoder.attention(torch.randn(2, 1, 8, 8)).shape == (2, 3, 5)


def test_the_fewest_places_that_hold_the_mass():
    weight = torch.tensor([[0.5, 0.2, 0.2, 0.1]])
    assert top_mass(weight, share=0.6).tolist() == [[True, True, False, False]]
    assert top_mass(weight, share=0.5).tolist() == [[True, False, False, False]]
    one, other = torch.tensor([True, True, False]), torch.tensor([False, True, True])
    assert jaccard(one, other).item() == pytest.approx(1 / 3)


def test_the_thing_is_what_differs_from_the_corners():
    image = torch.zeros(1, 1, 8, 8)
    image[..., 2:6, 4:8] = 1.0
    found = things(image, 2).view(2, 2)
    assert found.tolist() == [[False, True], [False, True]]


def test_overlap_of_perfect_attention_is_whole():
    from unlabeled.data.digits import Digits

    encoder = BUILD(ImageSpec(channels=1, size=16, mean=(0.0,), std=(1.0,)))

    class Perfect(type(encoder)):
        def attention(self, x):
            cells = things(x, 4).float()
            heads = torch.stack([torch.rand_like(cells), cells / cells.sum(1, keepdim=True)], 1)
            return torch.cat([torch.zeros(len(x), 2, 1), heads], 2)

    encoder.__class__ = Perfect
    judge = AttentionOverlap(share=0.999, images=50)
    (found,) = judge.judge(encoder.attention, Digits())
    assert found.value == pytest.approx(100.0)
    assert found.test == 50
    (plain,) = judge.plain(Digits())
    assert 5 < plain.value < 95


def test_each_tensor_is_clipped_by_itself():
    one, other = (torch.nn.Parameter(torch.zeros(4)) for _ in range(2))
    one.grad, other.grad = torch.full((4,), 3.0), torch.full((4,), 0.1)
    ClippedAdamW([one, other], lr=0.0, clip=1.0).step()
    assert one.grad.norm().item() == pytest.approx(1.0, abs=1e-5)
    assert other.grad.norm().item() == pytest.approx(0.2)
    with pytest.raises(ValueError, match="clip is 0"):
        ClippedAdamW([one], lr=0.1, clip=0)


def test_momentum_goes_from_0996_to_1():
    momentum = DINO.__init__.__kwdefaults__["momentum"]
    assert [momentum(Clock(step, 100, 10)) for step in (0, 50, 100)] == pytest.approx(
        [0.996, 0.998, 1.0]
    )
    assert math.log(65536) == pytest.approx(11.0904, abs=1e-4)
