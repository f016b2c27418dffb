import math

import pytest
import torch
import torch.nn.functional as F

from unlabeled.methods.image import moco
from unlabeled.methods.image.moco import MoCo
from unlabeled.nn.norms import SplitBatchNorm2d
from unlabeled.schedule import Clock


def no_sweep(function):
    raise AssertionError("MoCo does not sweep")


def loss_of(method, batch):
    (value,) = method.loss(batch).values()
    return value


def fill(method, rows):
    method.queue.rows.copy_(rows)


@pytest.mark.parametrize(("keys", "expected"), [(65536, 11.0904), (4096, 8.3180)])
def test_similarities_of_zero_give_the_log_of_the_number_of_keys(
    given, no_head, pair, keys, expected
):
    method = MoCo(given(3), head=no_head, dim=3, queue=keys)
    fill(method, torch.tensor([0.0, 0.0, 1.0]).expand(keys, 3))
    one, two = torch.eye(3)[:1], torch.eye(3)[1:2]
    value = loss_of(method, pair(one, two)).item()
    assert value == pytest.approx(math.log(keys + 1), rel=1e-5)
    assert value == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("keys", "temperature", "expected"), [(65536, 0.07, 0.0401), (4096, 0.1, 0.1706)]
)
def test_perfect_keys_among_unrelated_ones(given, no_head, pair, keys, temperature, expected):
    method = MoCo(given(2), head=no_head, dim=2, queue=keys, temperature=temperature)
    fill(method, torch.tensor([0.0, 1.0]).expand(keys, 2))
    z = torch.tensor([[1.0, 0.0]])
    assert loss_of(method, pair(z, 7 * z)).item() == pytest.approx(expected, abs=1e-4)


def test_queue_holds_the_unit_keys_of_past_batches_in_order(given, no_head, pair):
    method = MoCo(given(4), head=no_head, dim=4, queue=8)
    keys = torch.randn(3, 4, 4)
    unit = F.normalize(keys, dim=2)
    for number in range(3):
        method.clock = Clock(number, 3, 3)
        loss_of(method, pair(torch.randn(4, 4), keys[number]))
        if number == 1:
            torch.testing.assert_close(method.queue.rows, torch.cat([unit[0], unit[1]]))
    torch.testing.assert_close(method.queue.rows, torch.cat([unit[2], unit[1]]))


def test_the_positive_is_not_among_the_negatives(given, no_head, pair):
    """Each step contrasts with the queue as it was before the step, by a slow loop."""
    method = MoCo(given(4), head=no_head, dim=4, queue=6, temperature=0.5)
    for number in range(3):
        q, k = torch.randn(3, 4), torch.randn(3, 4)
        before = method.queue.rows.clone()
        value = loss_of(method, pair(q, k))
        total = 0.0
        for row, key in zip(F.normalize(q, dim=1), F.normalize(k, dim=1), strict=True):
            positive = math.exp(row.dot(key).item() / 0.5)
            negatives = [math.exp(row.dot(other).item() / 0.5) for other in before]
            total -= math.log(positive / (positive + sum(negatives))) / 3
        assert value.item() == pytest.approx(total, rel=1e-5), number
        assert not torch.equal(method.queue.rows, before)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_teacher_is_the_moving_average_of_the_parameters_only(encoder, views, momentum):
    method = MoCo(encoder, dim=8, queue=16, momentum=momentum, batchnorm_splits=2)
    before = {name: value.clone() for name, value in method.teacher.module.named_parameters()}
    buffers = {name: value.clone() for name, value in method.teacher.module.named_buffers()}
    student = dict(method.student.named_parameters())
    assert all(torch.equal(before[name], student[name]) for name in student)
    with torch.no_grad():
        for value in student.values():
            value.add_(torch.randn_like(value))
    method.student(views(4)["views"][0])  # moves the student's running statistics
    method.after_step()
    for name, value in method.teacher.module.named_parameters():
        torch.testing.assert_close(value, momentum * before[name] + (1 - momentum) * student[name])
    for name, value in method.teacher.module.named_buffers():
        assert torch.equal(value, buffers[name]), name


def test_only_the_query_gets_a_gradient(encoder, views):
    method = MoCo(encoder, dim=8, queue=16, batchnorm_splits=2)
    batch = views(4)
    for view in batch["views"]:
        view.requires_grad_()
    loss_of(method, batch).backward()
    x_q, x_k = batch["views"]
    assert x_q.grad.abs().sum() > 0
    assert x_k.grad is None
    assert not any(value.requires_grad for value in method.teacher.parameters())
    assert not method.queue.rows.requires_grad
    trained = {name for name, value in method.named_parameters() if value.requires_grad}
    assert trained == {
        *(f"encoder.{name}" for name, _ in encoder.named_parameters()),
        "projector.0.weight",
        "projector.0.bias",
    }


def test_keys_come_back_in_the_order_of_their_queries(encoder, views):
    """Without batch statistics the shuffle changes nothing; with them it changes the company."""
    method = MoCo(encoder, dim=8, queue=16, batchnorm_splits=4)
    x = views(8)["views"][1]
    keys = {}
    for mode in (True, False):
        method.train(mode)
        for step in (0, 1):
            method.clock = Clock(step, 10, 10)
            keys[mode, step] = method._keys(x)
    expected = F.normalize(method.teacher(x), dim=1)
    for step in (0, 1):
        torch.testing.assert_close(keys[False, step], expected)
    assert not torch.allclose(keys[True, 0], keys[True, 1], atol=1e-3)


def test_queries_are_normalized_in_contiguous_parts_of_the_batch(encoder, views):
    method = MoCo(encoder, dim=8, queue=16, batchnorm_splits=8)
    assert sum(isinstance(m, SplitBatchNorm2d) for m in method.encoder.modules()) == sum(
        isinstance(m, torch.nn.BatchNorm2d) for m in method.encoder.modules()
    )
    method.before_step(no_sweep)
    splits = {m.splits for m in method.modules() if isinstance(m, SplitBatchNorm2d)}
    assert splits == {8}
    x = views(16)["views"][0]
    together = method.student(x)
    for norm in method.modules():
        if isinstance(norm, SplitBatchNorm2d):
            norm.splits = 1
    parts = torch.cat([method.student(part) for part in x.chunk(8)])
    torch.testing.assert_close(together, parts)


def test_splits_are_shared_among_the_ranks(encoder, monkeypatch):
    method = MoCo(encoder, dim=8, queue=16, batchnorm_splits=8)
    for ranks, expected in ((2, 4), (8, 1), (16, 1)):
        monkeypatch.setattr(moco, "world_size", lambda ranks=ranks: ranks)
        method.before_step(no_sweep)
        assert {m.splits for m in method.modules() if isinstance(m, SplitBatchNorm2d)} == {expected}


def test_recipe_is_the_papers():
    recipe = moco.paper()
    assert recipe.sync_batchnorm is False
    assert moco.small().sync_batchnorm is False
    rates = [recipe.optim.lr(Clock(epoch, 200, 1)) for epoch in (0, 119, 120, 159, 160, 199)]
    assert rates == pytest.approx([0.03, 0.03, 0.003, 0.003, 0.0003, 0.0003])
    assert recipe.optim.rules == ()  # decay applies to all
    with torch.device("meta"):
        method = recipe.build()
    assert method.queue.rows.shape == (65536, 128)
