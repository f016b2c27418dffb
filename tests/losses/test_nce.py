import math

import pytest
import torch

from unlabeled.losses.nce import nce, positive_first


@pytest.mark.parametrize(("negatives", "twice"), [(4096, 16.636), (16384, 19.408)])
def test_equal_scores_give_the_log_of_their_number(negatives, twice):
    value = positive_first(torch.zeros(2, negatives + 1)).item()
    assert value == pytest.approx(math.log(negatives + 1), rel=1e-6)
    assert 2 * value == pytest.approx(twice, abs=1e-3)


def test_softmax_equals_a_slow_loop():
    scores = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    total = 0.0
    for row in scores:
        total -= math.log(math.exp(row[0]) / sum(math.exp(value) for value in row)) / 4
    assert positive_first(scores).item() == pytest.approx(total)
    assert torch.autograd.gradcheck(positive_first, (scores,))


@pytest.mark.parametrize(("negatives", "expected"), [(1, 1.3863), (4096, 9.3179), (32000, 11.3735)])
def test_nce_where_all_samples_are_equally_likely(negatives, expected):
    """p = 1/n: log(1 + K) + K log((1 + K) / K)."""
    samples = 1_000
    scores = torch.zeros(3, negatives + 1, dtype=torch.float64)
    value = nce(scores, samples=samples, partition=torch.tensor(float(samples)))
    closed = math.log(1 + negatives) + negatives * math.log((1 + negatives) / negatives)
    assert value.item() == pytest.approx(closed, abs=2e-3)
    assert value.item() == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("negatives", [1, 7])
def test_nce_where_model_and_noise_are_equally_likely(negatives):
    samples = 50
    scores = torch.zeros(2, negatives + 1, dtype=torch.float64)
    value = nce(scores, samples=samples, partition=torch.tensor(samples / negatives))
    assert value.item() == pytest.approx((1 + negatives) * math.log(2), abs=1e-4)


def test_nce_equals_a_slow_loop_and_sums_over_negatives():
    scores = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    samples, partition = 20, torch.tensor(13.0, dtype=torch.float64)
    total = 0.0
    for row in scores.tolist():
        p = [math.exp(value) / 13.0 for value in row]
        noise = 4 / samples
        total -= math.log(p[0] / (p[0] + noise)) / 3
        total -= sum(math.log(noise / (value + noise)) for value in p[1:]) / 3
    value = nce(scores, samples=samples, partition=partition)
    assert value.item() == pytest.approx(total, rel=1e-5)
    assert torch.autograd.gradcheck(
        lambda s: nce(s, samples=samples, partition=partition), (scores,)
    )
    with pytest.raises(ValueError, match="at least a negative"):
        nce(scores[:, :1], samples=samples, partition=partition)


def test_low_precision_is_computed_in_float32():
    scores = torch.randn(3, 5).bfloat16()
    assert positive_first(scores).dtype == torch.float32
    assert nce(scores, samples=9, partition=torch.tensor(9.0)).dtype == torch.float32
