import math

import pytest
import torch
from torch import nn

from unlabeled.methods.image.sela import SeLa
from unlabeled.schedule import Clock


def made(given, **options):
    torch.manual_seed(0)
    return SeLa(given(6), **{"samples": 40, "clusters": 8, "heads": 3, **options})


def test_first_labels_are_exactly_balanced_and_differ_between_heads(given):
    method = made(given)
    assert method.labels.shape == (3, 40)
    for head in method.labels:
        assert head.bincount(minlength=8).tolist() == [5] * 8
    assert not torch.equal(method.labels[0], method.labels[1])


def test_the_first_loss_is_about_log_k_and_each_head_has_its_own(given):
    method = made(given, clusters=20)
    for head in method.heads:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    x = torch.randn(10, 6)
    batch = {"views": [x], "index": torch.arange(10)}
    assert method.loss(batch)["cross_entropy"].item() == pytest.approx(math.log(20), abs=1e-5)
    method.labels[0] = (method.labels[0] + 1) % 20
    gradients = []
    for _ in range(2):
        method.zero_grad()
        method.loss(batch)["cross_entropy"].backward()
        gradients.append([head.weight.grad.clone() for head in method.heads])
        method.labels[0] = (method.labels[0] + 1) % 20
    assert not torch.equal(gradients[0][0], gradients[1][0])
    assert torch.equal(gradients[0][1], gradients[1][1])


def test_labels_are_assigned_over_the_whole_data_set_and_stay_balanced(given):
    method = made(given, updates=3)
    data = torch.randn(40, 6) + 3 * torch.eye(6)[torch.arange(40) % 6]
    method.clock = Clock(0, 100, 10)
    before = method.labels.clone()
    method.before_step(lambda function: function(data))
    assert not torch.equal(method.labels, before)
    for head, labels in zip(method.heads, method.labels, strict=True):
        counts = labels.bincount(minlength=8)
        assert counts.max() <= 2 * counts.min() + 3
        assert len(head(data).argmax(1).unique()) <= len(labels.unique())


def test_updates_are_dense_at_the_start_or_even(given):
    def moments(**options):
        method = made(given, **options)
        found = []
        for step in range(100):
            method.clock = Clock(step, 100, 10)
            found += [step] if method.due() else []
        return found

    assert moments(updates=6, spacing=1.0) == [0, 20, 40, 60, 80]  # the last is at the end
    assert moments(updates=6, spacing=2.0) == [0, 4, 16, 36, 64]


def test_nothing_happens_between_the_moments(given):
    method = made(given, updates=3)
    method.clock = Clock(1, 100, 10)

    def never(function):
        raise AssertionError("a sweep costs a pass over the data")

    method.before_step(never)
    with pytest.raises(ValueError, match="samples is None"):
        made(given, samples=None)


def test_labels_are_kept_in_the_state(given):
    """A resumed run goes on with the labels of its last update, which no seed gives again."""
    method, other = made(given, updates=3), made(given, updates=3)
    method.clock = Clock(0, 100, 10)
    data = torch.randn(40, 6)
    method.before_step(lambda function: function(data))
    assert not torch.equal(other.labels, method.labels)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.labels, method.labels)
