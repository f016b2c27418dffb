import math

import pytest
import torch

from unlabeled.losses.metric import (
    lifted_structure,
    n_pair,
    pair_margin,
    semi_hard_triplet,
    triplet,
)


def distances():
    generator = torch.Generator().manual_seed(3)
    positives = torch.rand(4, generator=generator, dtype=torch.float64) * 2
    negatives = torch.rand(4, 5, generator=generator, dtype=torch.float64) * 2
    return positives, negatives


def test_triplet_has_the_values_of_the_review():
    one = torch.tensor([0.5])
    assert triplet(one, torch.tensor([[1.0]]), margin=0.2).item() == 0
    assert triplet(one, torch.tensor([[0.6]]), margin=0.2).item() == pytest.approx(0.09)


def test_triplet_equals_the_loop():
    positives, negatives = distances()
    terms = [
        max(0.0, float(p**2 - n**2 + 0.2)) for p, row in zip(positives, negatives, strict=True)
        for n in row
    ]  # fmt: skip
    expected = sum(terms) / len(terms)
    assert triplet(positives, negatives, margin=0.2).item() == pytest.approx(expected)


def test_semi_hard_takes_the_nearest_negative_beyond_the_positive():
    positives = torch.tensor([0.5, 0.9])
    negatives = torch.tensor([[0.3, 0.6, 1.0], [0.2, 0.8, 0.7]])
    # 0.6 lies just beyond 0.5; nothing lies beyond 0.9, so the farthest, 0.8, counts
    expected = (0.25 - 0.36 + 0.2 + 0.81 - 0.64 + 0.2) / 2
    value = semi_hard_triplet(positives, negatives, margin=0.2)
    assert value.item() == pytest.approx(expected, abs=1e-6)


def test_pair_margin_equals_the_loop():
    positives, negatives = distances()
    pull = sum(float(d) ** 2 / 2 for d in positives) / 4
    push = sum(max(0.0, 1 - float(d)) ** 2 / 2 for d in negatives.flatten()) / 20
    assert pair_margin(positives, negatives, margin=1.0).item() == pytest.approx(pull + push)


def test_lifted_structure_equals_the_loop():
    positives, negatives = distances()
    positives[2:] = positives[:2]  # both ends of a pair are equally far
    total = 0.0
    for i in range(2):
        crowd = sum(math.exp(1 - float(d)) for d in (*negatives[i], *negatives[i + 2]))
        total += max(0.0, math.log(crowd) + float(positives[i])) ** 2
    value = lifted_structure(positives, negatives, margin=1.0)
    assert value.item() == pytest.approx(total / 4)


def test_n_pair_of_one_equal_negative_is_log_2():
    assert n_pair(torch.zeros(3), torch.zeros(3, 1)).item() == pytest.approx(math.log(2))


def test_n_pair_is_info_nce_at_temperature_1():
    positives, negatives = distances()
    logits = torch.cat([positives[:, None], negatives], 1)
    expected = torch.nn.functional.cross_entropy(logits, torch.zeros(4, dtype=torch.int64))
    torch.testing.assert_close(n_pair(positives, negatives), expected)


@pytest.mark.parametrize("loss", [pair_margin, triplet, semi_hard_triplet, lifted_structure])
def test_gradients_and_errors(loss):
    positives, negatives = (each.requires_grad_() for each in distances())
    torch.autograd.gradcheck(lambda p, n: loss(p, n, margin=0.7), (positives, negatives))
    with pytest.raises(ValueError, match="margin is 0"):
        loss(positives, negatives, margin=0)


def test_lifted_structure_needs_both_ends():
    with pytest.raises(ValueError, match="there are 3 anchors"):
        lifted_structure(torch.ones(3), torch.ones(3, 2), margin=1.0)
