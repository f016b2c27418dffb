import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unlabeled.methods.image import eqco
from unlabeled.methods.image.eqco import EqCo, SiMo, normalized_head
from unlabeled.schedule import Clock


def loss_of(method, batch):
    (value,) = method.loss(batch).values()
    return value


@pytest.mark.parametrize("negatives", [1, 3, None])
@pytest.mark.parametrize("alpha", [16, 256, 65536])
def test_equal_similarities_give_the_log_of_alpha_for_every_number(
    given, no_head, pair, negatives, alpha
):
    z = torch.ones(8, 3)
    method = SiMo(given(3), head=no_head, alpha=alpha, negatives=negatives)
    value = loss_of(method, pair(z, 2 * z)).item()
    assert value == pytest.approx(math.log(1 + alpha), rel=1e-5)


@pytest.mark.parametrize("negatives", [1, 4, None])
def test_perfect_keys_among_unrelated_ones(given, no_head, pair, negatives):
    z = torch.eye(6)
    method = SiMo(given(6), head=no_head, alpha=256, negatives=negatives)
    assert loss_of(method, pair(z, 5 * z)).item() == pytest.approx(1.00244, abs=1e-4)


@pytest.mark.parametrize("negatives", [1, 3, 5, None])
def test_loss_equals_the_loop(given, no_head, pair, negatives):
    """The drawn columns are those of the matrix of similarities without its diagonal."""
    method = SiMo(given(4), head=no_head, alpha=64, negatives=negatives, temperature=0.5)
    method.clock = Clock(7, 100, 10)
    q, k = torch.randn(6, 4), torch.randn(6, 4)
    value = loss_of(method, pair(q, k)).item()
    drawn = torch.randperm(5, generator=torch.Generator().manual_seed(7)).tolist()[:negatives]
    total, unit = 0.0, F.normalize(k, dim=1)
    for n, row in enumerate(F.normalize(q, dim=1)):
        others = [unit[m] for m in range(6) if m != n]
        below = sum(math.exp(2 * (row @ others[place]).item()) for place in drawn)
        top = math.exp(2 * (row @ unit[n]).item())
        total -= math.log(top / (top + 64 / len(drawn) * below)) / 6
    assert value == pytest.approx(total, rel=1e-5)


def test_the_own_key_is_never_a_negative_and_the_choice_changes_with_the_step(given, no_head, pair):
    """Own keys are perfect, all others opposite: one own key among negatives would show."""
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    method = SiMo(given(2), head=no_head, alpha=1, negatives=1)
    expected = math.log(1 + math.exp(-10))
    assert loss_of(method, pair(z, z)).item() == pytest.approx(expected, rel=1e-2)
    method = SiMo(given(2), head=no_head, alpha=16, negatives=4)
    drawn = []
    for step in range(20):
        method.clock = Clock(step, 100, 10)
        drawn.append(tuple(sorted(method._drawn(9).tolist())))
        assert len(set(drawn[-1])) == 4
        assert max(drawn[-1]) < 8
    assert len(set(drawn)) > 10


def test_more_negatives_than_other_samples_are_refused(given, no_head, pair):
    method = SiMo(given(2), head=no_head, alpha=16, negatives=4)
    with pytest.raises(ValueError, match="negatives is 4, the batch has 4 samples: give 1 to 3"):
        loss_of(method, pair(torch.randn(4, 2), torch.randn(4, 2)))
    with pytest.raises(ValueError, match="alpha is 0"):
        SiMo(given(2), head=no_head, alpha=0)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_teacher_is_the_moving_average_and_only_queries_get_a_gradient(encoder, views, momentum):
    method = SiMo(encoder, alpha=16, dim=8, momentum=momentum)
    batch = views(6)
    for view in batch["views"]:
        view.requires_grad_()
    loss_of(method, batch).backward()
    x_q, x_k = batch["views"]
    assert x_q.grad.abs().sum() > 0
    assert x_k.grad is None
    before = [value.clone() for value in method.teacher.parameters()]
    with torch.no_grad():
        for value in method.student.parameters():
            value.add_(torch.randn_like(value))
    method.after_step()
    for old, new, student in zip(
        before, method.teacher.parameters(), method.student.parameters(), strict=True
    ):
        torch.testing.assert_close(new, momentum * old + (1 - momentum) * student)


def test_the_head_normalizes_its_output_too():
    head = normalized_head(64, 32)
    assert [type(layer) for layer in head] == [
        nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear, nn.BatchNorm1d,
    ]  # fmt: skip
    assert {name for name, _ in head.named_parameters()} == {
        "0.weight", "1.weight", "1.bias", "3.weight", "4.weight", "4.bias",
    }  # fmt: skip
    assert head[3].weight.std().item() == pytest.approx(0.01, rel=0.1)


def test_eqco_in_moco_weighs_a_short_queue_as_a_long_one(given, no_head, pair):
    """The queue of before the step; equal to the loop with alpha / K."""
    method = EqCo(given(4), head=no_head, dim=4, alpha=65536, queue=5, temperature=0.5)
    for step in range(3):
        method.clock = Clock(step, 3, 3)
        q, k, bank = torch.randn(3, 4), torch.randn(3, 4), method.queue.rows.clone()
        value, total = loss_of(method, pair(q, k)).item(), 0.0
        for row, key in zip(F.normalize(q, dim=1), F.normalize(k, dim=1), strict=True):
            below = sum(math.exp(2 * (row @ other).item()) for other in bank)
            top = math.exp(2 * (row @ key).item())
            total -= math.log(top / (top + 65536 / 5 * below)) / 3
        assert value == pytest.approx(total, rel=1e-5)
        assert not torch.equal(bank, method.queue.rows)


def test_eqco_in_moco_trains_like_moco(encoder, views):
    method = EqCo(encoder, alpha=64, queue=16, dim=8, batchnorm_splits=2)
    method.before_step(lambda function: None)
    batch = views(4)
    batch["views"][1].requires_grad_()
    loss_of(method, batch).backward()
    assert batch["views"][1].grad is None
    assert all(value.grad is not None for value in method.student.parameters())
    assert not any(value.requires_grad for value in method.teacher.parameters())
    method.after_step()


def test_recipes_are_the_papers():
    recipe = eqco.paper()
    assert (recipe.epochs, recipe.batch_size, recipe.sync_batchnorm) == (200, 256, True)
    epoch = 5004
    rates = [recipe.optim.lr(Clock(step, 200 * epoch, epoch)) for step in (0, 5, 11, 200 * epoch)]
    assert rates == pytest.approx([0, 0.015, 0.03, 0], rel=1e-2)
    with torch.device("meta"):
        method, in_moco = recipe.build(), eqco.moco().build()
    assert (method.alpha, method.negatives, method.temperature) == (256, None, 0.2)
    assert (in_moco.alpha, len(in_moco.queue.rows)) == (65536, 256)
    assert eqco.moco().sync_batchnorm is False
