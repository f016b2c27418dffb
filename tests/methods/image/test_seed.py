import math
from functools import partial

import pytest
import torch
from torch import nn

from unlabeled.losses.distillation import queue_cross_entropy
from unlabeled.methods.image.seed import SEED, alone, small

E = torch.eye(8)


def match(student, teacher, queue, *, ts=0.2, tt=0.01):
    return queue_cross_entropy(
        student, teacher, queue, student_temperature=ts, teacher_temperature=tt
    )


def test_a_student_like_its_teacher_has_the_teachers_entropy_and_no_gradient():
    torch.manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(5, 8).double(), dim=1)
    queue = torch.nn.functional.normalize(torch.randn(20, 8).double(), dim=1)
    student = z.clone().requires_grad_()
    loss = match(student, z, queue, ts=0.1, tt=0.1)
    logits = torch.cat([torch.ones(5, 1).double(), z @ queue.T], 1) / 0.1
    p = logits.softmax(1)
    assert loss.item() == pytest.approx(-(p * p.log()).sum(1).mean().item())
    loss.backward()
    assert student.grad.abs().max() < 1e-10


@pytest.mark.parametrize("keys", [4096, 65536])
def test_closed_forms_of_the_note(keys):
    e = E.double()
    queue = e[1:2].expand(keys, 8)
    same = match(e[:1], e[:1], queue, tt=1e-4).item()
    assert same == pytest.approx(math.log(1 + keys * math.exp(-5)), abs=1e-3)
    orthogonal = match(e[2:3], e[:1], queue, tt=0.3).item()
    assert orthogonal == pytest.approx(math.log(keys + 1), abs=1e-4)


def test_a_queued_vector_equal_to_the_images_own_halves_the_target():
    for tt in (1e-4, 0.5):
        far = match(E[:1], E[:1], E[:1], ts=1e3, tt=tt)  # student softmax is even
        assert far.item() == pytest.approx(math.log(2), abs=1e-3)
        assert match(E[:1], E[:1], E[:1], tt=tt).item() == pytest.approx(math.log(2), abs=1e-6)


def test_bad_values_are_named():
    with pytest.raises(ValueError, match="temperatures are 0"):
        match(E, E, E, tt=0)
    with pytest.raises(ValueError, match="equal shapes"):
        match(E, E[:2], E)


def made(given, **options):
    torch.manual_seed(0)
    teacher = partial(_given, given)
    defaults = {"teacher": None, "teacher_encoder": teacher, "dim": 4, "queue": 12}
    encoder = given(6)
    encoder.spec = None
    return SEED(encoder, **{**defaults, **options})


def _given(given, spec):
    return given(6)


def test_the_queue_holds_the_teachers_vectors_after_the_loss(given):
    method = made(given)
    x = torch.randn(5, 6)
    before = method.queue.rows.clone()
    with torch.no_grad():
        z_t = nn.functional.normalize(method.teacher(x), dim=1)
        expected = match(method.projector(method.encoder(x)), z_t, before)
    loss = method.loss({"views": [x], "index": torch.arange(5)})["similarity"]
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(method.queue.rows[:5], z_t)
    torch.testing.assert_close(method.queue.rows[5:], before[5:])


def test_the_teacher_is_frozen_and_stays_in_eval_mode(given):
    method = made(given).train()
    assert not method.teacher.training
    assert method.projector.training
    method.loss({"views": [torch.randn(5, 6)], "index": torch.arange(5)})["similarity"].backward()
    assert all(value.grad is None for value in method.teacher.parameters())
    assert any(value.grad is not None for value in method.projector.parameters())


def test_the_student_is_smaller_and_alone_is_the_same_network():
    assert small().encoder == alone().encoder
    assert alone().method.func.__name__ == "MoCo"
    teacher = small().method.keywords["teacher"]
    assert teacher.recipe == "moco_v2:small"
