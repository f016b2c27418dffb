import math

import pytest
import torch

from unlabeled.losses import crossview
from unlabeled.losses.clustering import swapped_prediction


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def slow(scores, codes, temperature):
    total = 0.0
    for a, code in enumerate(codes):
        for v, score in enumerate(scores):
            if v == a:
                continue
            for i in range(len(score)):
                exps = (score[i] / temperature).exp()
                for k in range(len(exps)):
                    share = -code[i, k] * (exps[k] / exps.sum()).log()
                    total += share / (len(score) * len(codes) * (len(scores) - 1))
    return total


@pytest.mark.parametrize(("crops", "assigning"), [(2, 2), (5, 2), (3, 1)])
def test_equals_the_loop(crops, assigning):
    scores = list(randn(crops, 3, 4).unbind())
    codes = list(randn(assigning, 3, 4, seed=1).softmax(2).unbind())
    expected = slow(scores, codes, 0.1)
    torch.testing.assert_close(swapped_prediction(scores, codes, temperature=0.1), expected)


def test_collapse_is_log_k():
    scores, codes = [torch.ones(4, 3000)] * 3, [torch.full((4, 3000), 1 / 3000)] * 2
    loss = swapped_prediction(scores, codes, temperature=0.1).item()
    assert loss == pytest.approx(8.0064, abs=1e-4)
    assert loss == pytest.approx(math.log(3000), abs=1e-4)


def test_the_two_views_can_be_exchanged():
    scores = list(randn(2, 3, 4).unbind())
    codes = list(randn(2, 3, 4, seed=1).softmax(2).unbind())
    torch.testing.assert_close(
        swapped_prediction(scores, codes, temperature=0.1),
        swapped_prediction(scores[::-1], codes[::-1], temperature=0.1),
    )


@pytest.mark.parametrize("rows", [1, 2, 5])  # samples a block; the last one is ragged
def test_value_and_gradient_in_blocks_are_the_loops(monkeypatch, rows):
    monkeypatch.setattr(crossview, "_BLOCK_BYTES", rows * 4 * 3 * 4)
    scores = [part.clone().requires_grad_() for part in randn(3, 5, 4)]
    codes = [part.softmax(1).requires_grad_() for part in randn(2, 5, 4, seed=1)]
    loss, expected = swapped_prediction(scores, codes, temperature=0.5), slow(scores, codes, 0.5)
    torch.testing.assert_close(loss, expected)
    gradient = torch.autograd.grad(3 * loss, [*scores, *codes], allow_unused=True)
    torch.testing.assert_close(gradient[:3], torch.autograd.grad(3 * expected, scores))
    assert gradient[3:] == (None, None)


def test_float32_under_autocast_and_errors():
    scores, codes = list(randn(2, 3, 4).float()), list(randn(2, 3, 4).softmax(2).float())
    loss = swapped_prediction(scores, codes, temperature=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(swapped_prediction(scores, codes, temperature=0.1), loss)
    with pytest.raises(ValueError, match="1 crops and 1 codes"):
        swapped_prediction(scores[:1], codes[:1], temperature=0.1)
    with pytest.raises(ValueError, match="2 crops and 0 codes"):
        swapped_prediction(scores, [], temperature=0.1)
    with pytest.raises(ValueError, match="temperature is 0"):
        swapped_prediction(scores, codes, temperature=0)
