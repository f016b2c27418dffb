import math
from dataclasses import replace

import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import brier_score_loss, log_loss
from torch.nn.functional import cross_entropy
from torchmetrics.functional.classification import multiclass_calibration_error

from tests.evaluators.fakes import blobs
from unlabeled.evaluators.calibration import Calibration, best_temperature, reliability
from unlabeled.evaluators.evaluator import draw
from unlabeled.evaluators.linear import Linear
from unlabeled.features import Features

QUICK = Linear(strengths=(1e-4, 1e-2))


def some_logits(count=2000, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, classes, generator=generator).double()
    label = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return logits, label


def by_name(measures):
    return {each.metric: each for each in measures}


# The note's exact values (069, SSL transfer) ------------------------------------------------------


def test_sure_of_all_and_right_in_four_of_five_is_an_error_of_a_fifth():
    hits = torch.arange(100) % 5 != 0
    assert reliability(torch.ones(100), hits).error == pytest.approx(0.2)


def test_scaling_leaves_accuracy_as_it_is_and_moves_confidence():
    found = by_name(Calibration(probe=QUICK).score(blobs(400, apart=0.3), blobs(300, seed=1)))
    temperature = found["top1"].details["temperature"]
    assert temperature != pytest.approx(1, abs=0.01)
    accuracy = {}
    for ending in ("", "_scaled"):
        bins = found[f"ece{ending}"].details["bins"]
        right = sum(a * n for a, n in zip(bins["accuracy"], bins["samples"], strict=True))
        accuracy[ending] = 100 * right / sum(bins["samples"])
    assert accuracy[""] == accuracy["_scaled"] == pytest.approx(found["top1"].value)


# Parts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_error_is_torchmetrics_and_the_loop(bins):
    logits, label = some_logits()
    chance = logits.softmax(1)
    confidence, guess = chance.max(1)
    hits = guess == label
    own = reliability(confidence, hits, bins=bins)
    other = multiclass_calibration_error(chance, label, num_classes=5, n_bins=bins, norm="l1")
    assert own.error == pytest.approx(other.item(), abs=1e-6)
    total = 0.0
    for b in range(bins):
        inside = [i for i, c in enumerate(confidence.tolist()) if b / bins <= c < (b + 1) / bins]
        if inside:
            gap = hits[inside].double().mean() - confidence[inside].mean()
            total += len(inside) / len(hits) * abs(gap.item())
    assert own.error == pytest.approx(total, abs=1e-9)
    assert own.samples.sum() == len(hits)


def test_bins_hold_their_lower_edge_and_certainty_the_last():
    table = reliability(torch.tensor([0.5, 0.499, 1.0]), torch.tensor([True, False, True]), bins=2)
    assert table.samples.tolist() == [1, 2]
    assert table.accuracy.tolist() == [0.0, 1.0]
    assert table.confidence.tolist() == pytest.approx([0.499, 0.75])


def test_the_temperature_of_equal_logits_is_closed():
    # two classes, logits (3, 0), right in 80 %: softmax(3 / T) = 0.8
    logits = torch.tensor([[3.0, 0.0]]).expand(10, 2)
    label = (torch.arange(10) >= 8).long()
    temperature = best_temperature(logits, label)
    assert temperature == pytest.approx(3 / math.log(4), rel=1e-9)
    chance = (logits / temperature).softmax(1)
    assert reliability(chance[:, 0], label == 0).error == pytest.approx(0, abs=1e-7)


def test_the_temperature_is_scipys_minimum_and_finds_what_was_hidden():
    logits, label = some_logits(count=20_000)
    for hidden in (0.3, 1.0, 4.0):
        found = best_temperature(hidden * logits, label)
        assert found == pytest.approx(hidden, rel=0.05)
        other = minimize_scalar(
            lambda t, hidden=hidden: cross_entropy(hidden * logits / t, label).item(),
            bounds=(0.05, 20),
            method="bounded",
            options={"xatol": 1e-8},
        )
        assert found == pytest.approx(other.x, rel=1e-4)


def test_labels_that_are_always_first_or_never_give_a_bound():
    logits, _ = some_logits(count=50)
    assert best_temperature(logits, logits.argmax(1)) == pytest.approx(1 / 20)
    assert best_temperature(logits, logits.argmin(1)) == pytest.approx(20)


# The evaluator ------------------------------------------------------------------------------------


def test_figures_are_those_of_scikit_learn_on_the_same_probe():
    train, test = blobs(400, apart=0.3), blobs(300, apart=0.3, seed=1)
    found = by_name(Calibration(probe=QUICK).score(train, test))
    generator = torch.Generator().manual_seed(0)
    held, fitted = draw(train.label, share=0.2, least=1, generator=generator)
    probe = QUICK.fitted(train.x[fitted], train.label[fitted], classes=4)
    temperature = best_temperature(probe.logits(train.x[held]), train.label[held])
    assert found["top1"].details["temperature"] == temperature
    assert found["top1"].details["held_out"] == len(held) == 80
    for ending, divisor in (("", 1.0), ("_scaled", temperature)):
        chance = (probe.logits(test.x).double() / divisor).softmax(1)
        expected = {
            "nll": log_loss(test.label, chance.numpy()),
            "brier": 100 * brier_score_loss(test.label, chance.numpy(), scale_by_half=False),
            "ece": 100 * multiclass_calibration_error(chance, test.label, 4, n_bins=15).item(),
        }
        for name, value in expected.items():
            each = found[f"{name}{ending}"]
            assert each.value == pytest.approx(value, rel=1e-5), name
            assert not each.higher_is_better
            scale = 100 if each.unit == "%" else 1  # hits are each sample's own part
            assert scale * each.hits.mean().item() == pytest.approx(each.value)
    assert found["nll"].unit == "nats"
    assert found["top1"].value == pytest.approx(
        100 * (probe.predict(test.x) == test.label).double().mean().item()
    )


def test_too_sure_a_probe_is_corrected_on_held_out_labels():
    # many noisy dimensions and hardly any penalty: the probe fits noise and is too sure
    noise = torch.randn(500, 60, generator=torch.Generator().manual_seed(5))
    both = blobs(500, apart=0.6)
    x = torch.cat([both.x / both.x.std(0), noise], 1)
    train, test = Features(x[:250], both.label[:250]), Features(x[250:], both.label[250:])
    judge = Calibration(probe=Linear(strengths=(1e-5,)))
    found = {each.metric: each.value for each in judge.score(train, test)}
    assert found["ece"] > 10
    for name in ("ece", "nll", "brier"):
        assert found[f"{name}_scaled"] < found[name], name
    assert found["ece_scaled"] < 0.8 * found["ece"]


def test_the_test_split_never_decides_and_a_seed_is_a_result():
    train, test = blobs(200, apart=0.3), blobs(100, apart=0.3, seed=1)
    mixed = Features(test.x, test.label.roll(1))
    judge = Calibration(probe=QUICK)
    one, two = by_name(judge.score(train, test)), by_name(judge.score(train, mixed))
    assert one["top1"].details == two["top1"].details
    assert one["nll"].value != two["nll"].value
    again = by_name(judge.score(train, test))
    assert [each.value for each in again.values()] == [each.value for each in one.values()]
    other = by_name(replace(judge, seed=1).score(train, test))
    assert other["top1"].details["temperature"] != one["top1"].details["temperature"]


def test_one_test_sample_is_enough_and_bad_requests_are_refused():
    train, test = blobs(60), blobs(1)
    found = by_name(Calibration(probe=QUICK).score(train, test))
    assert found["top1"].test == 1
    assert math.isfinite(found["nll_scaled"].value)
    few = Features(train.x[:9], torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2]))
    assert Calibration(probe=QUICK).score(few, Features(few.x, few.label))
    with pytest.raises(ValueError, match="too few training samples in class 2: each class needs 3"):
        Calibration().score(Features(few.x[:8], few.label[:8]), Features(few.x, few.label))
    with pytest.raises(ValueError, match="bins is 0"):
        Calibration(bins=0)
    for share in (0.0, 0.5):
        with pytest.raises(ValueError, match=f"held_out is {share}"):
            Calibration(held_out=share)
    assert Calibration(bins=10).protocol == "calibration/ece10-v1"
