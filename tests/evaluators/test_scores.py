import math

import pytest
import torch

from unlabeled.evaluators.evaluator import flatten, measure
from unlabeled.evaluators.scores import RANDOM, RAW, Comparison, Row, Scores


def row(name, hits, protocol="knn/instdisc-v1", readout="pooled"):
    found = measure("top1", torch.as_tensor(hits), train=7)
    return Row.of(found, name=name, readout=readout, protocol=protocol, seconds=0.0)


def some(right, count=100, start=0):
    hits = torch.zeros(1, count, dtype=torch.bool)
    hits[0, start : start + right] = True
    return hits


def test_measure_of_trials():
    found = measure("top1", torch.tensor([[True, True, False, False], [True, True, True, False]]),
                    train=3)  # fmt: skip
    assert found.trials == (50, 75)
    assert found.value == 62.5
    assert found.spread == pytest.approx(12.5 * math.sqrt(2))
    assert found.hits.tolist() == [1, 1, 0.5, 0]
    assert flatten([found], "knn") == {"knn/top1": 62.5, "knn/top1_std": found.spread}
    assert measure("top1", torch.ones(1, 4) > 0, train=3).spread is None


def test_the_margin_is_paired():
    # the same 60 of 100 right, and 8 more: 8 samples differ, all in one direction
    close = Comparison(row("ours", some(68)), row(RAW, some(60)))
    variance = 100**2 * (0.08 - 0.08**2)
    assert close.difference == pytest.approx(8)
    assert close.margin == pytest.approx(2 * math.sqrt(variance / 100))
    assert close.shown
    # the same two accuracies, but right on other samples: more noise, nothing shown
    apart = Comparison(row("ours", some(68, start=32)), row(RAW, some(60)))
    assert apart.difference == pytest.approx(8)
    assert apart.margin > close.margin
    assert not apart.shown


def test_the_margin_holds_the_spread_over_draws():
    draws = torch.cat([some(40), some(80)])
    found = Comparison(row("ours", draws), row(RANDOM, draws.flip(0)))
    spread = 20 * math.sqrt(2)
    assert found.margin == pytest.approx(2 * math.sqrt(2 * spread**2 / 2))


def test_sentences_say_what_is_shown_and_what_not():
    rows = (
        row("ours", some(80)),
        row(RAW, some(50)),
        row(RANDOM, some(79)),
        row("supervised", some(99)),
        row(RAW, some(99), readout="grid2"),
    )
    scores = Scores(model="ours", data="fake", rows=rows, counts={}, classes=2, settings={},
                    seconds=1.0)  # fmt: skip
    sentences = scores.sentences()
    assert len(sentences) == 4
    assert "80.0 against 50.0 of raw input, +30.0" in sentences[0]
    assert "better than the input" in sentences[0]
    assert "+1.0" in sentences[1]
    assert sentences[1].endswith("no difference shown.")
    assert sentences[2].endswith("labels still give more.")
    assert "one encoder on one data set" in sentences[3]


def test_end_to_end_networks_stand_beside_the_probes_of_their_labels():
    rows = (
        row("ours", some(80), "linear/lbfgs-v1"),
        row("ours", some(70), "fewlabel/lbfgs-cv-v1"),
        row("ours", some(75)),
        row("supervised", some(90), "supervised/adamw-v1", "end to end"),
        row("supervised", some(60), "fewlabel/supervised-adamw-v1", "end to end"),
    )
    scores = Scores(model="ours", data="fake", rows=rows, counts={}, classes=2, settings={},
                    seconds=1.0)  # fmt: skip
    pairs = [(each.encoder.value, each.floor.value) for each in scores.comparisons()]
    assert pairs == [(80, 90), (70, 60)]
    assert "of supervised, end to end, +10.0" in scores.sentences()[1]
