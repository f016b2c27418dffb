import pytest
import torch

from unlabeled.losses.adversarial import hinge, score_gap


def scores(seed, count=3, rows=5):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, generator=generator, dtype=torch.float64) for _ in range(count)]


def test_scores_of_zero():
    zero = [torch.zeros(4)] * 3
    assert hinge(zero, zero).item() == 6
    assert score_gap(zero, zero).item() == 0


def test_perfect_margins_cost_nothing():
    assert hinge([torch.tensor([1.0, 7.0])] * 3, [torch.tensor([-1.0, -2.0])] * 3).item() == 0


def test_the_hinge_of_a_half():
    far = [torch.tensor([-5.0])]
    assert hinge([torch.tensor([0.5])], far).item() == 0.5


def test_both_equal_the_loop():
    real, made = scores(0), scores(1)
    cost, gap = 0.0, 0.0
    for one, other in zip(real, made, strict=True):
        for s in one:
            cost += max(0.0, 1 - float(s)) / len(one)
            gap += float(s) / len(one)
        for s in other:
            cost += max(0.0, 1 + float(s)) / len(other)
            gap -= float(s) / len(other)
    assert hinge(real, made).item() == pytest.approx(cost)
    assert score_gap(real, made).item() == pytest.approx(gap)


def test_the_hinge_is_of_each_score_not_of_their_sum():
    real = [torch.tensor([3.0]), torch.tensor([-2.0])]
    made = [torch.tensor([-1.0])] * 2
    assert hinge(real, made).item() == 3.0


def test_swapped_labels_turn_the_sign_of_the_gap():
    real, made = scores(0), scores(1)
    assert score_gap(made, real).item() == pytest.approx(-score_gap(real, made).item())


def test_half_precision_is_computed_in_float32():
    real, made = ([each.half() for each in scores(seed)] for seed in (0, 1))
    assert hinge(real, made).dtype == score_gap(real, made).dtype == torch.float32


def test_scores_must_be_paired():
    with pytest.raises(ValueError, match="3 scores of what is real, 2 of what is made"):
        hinge(scores(0), scores(1, 2))
    with pytest.raises(ValueError, match="give equally many"):
        score_gap([], [])
