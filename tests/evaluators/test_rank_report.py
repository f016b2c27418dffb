import json
import math
from itertools import chain

import pytest
from rich.console import Console

from unlabeled.evaluators.rank_report import rank_report_of
from unlabeled.evaluators.scores import Row

MODELS = ("a", "b", "c", "d", "e")
LINEAR = (50.0, 60.0, 70.0, 80.0, 90.0)
FREE = "labelfree/rankme-v1"


def rows(protocol, metric, values, *, higher=True, readout="pooled", names=MODELS):
    return [
        Row(
            name=name, readout=readout, protocol=protocol, metric=metric, value=value, unit="",
            trials=(value,), train=0, seconds=0.0, higher_is_better=higher,
        )
        for name, value in zip(names, values, strict=True)
    ]  # fmt: skip


def report(*more):
    probe = rows("linear/lbfgs-v1", "top1", LINEAR)
    return rank_report_of([*probe, *chain(*more)], models=MODELS, data="fake")


def only(found):
    (line,) = found.lines
    return line


def test_the_same_order_agrees_and_one_swap_costs_two_of_ten_pairs():
    line = only(report(rows(FREE, "effective_rank", (1, 2, 3, 4, 5))))
    assert line.agreement[:3] == pytest.approx((1, 1, 5))
    line = only(report(rows(FREE, "effective_rank", (1, 2, 3, 5, 4))))
    assert (line.agreement.rho, line.agreement.tau) == pytest.approx((0.9, 0.8))


def test_what_is_better_when_lower_is_turned_around():
    line = only(
        report(rows("alignment/views-v1", "uniformity", (-1, -2, -3, -4, -5), higher=False))
    )
    assert (line.name, line.better) == ("alignment uniformity", "lower")
    assert line.values == (-1, -2, -3, -4, -5)  # as measured
    assert line.agreement.rho == pytest.approx(1)


def test_alpha_counts_by_its_distance_from_one():
    line = only(report(rows(FREE, "alpha_req", (3.0, 0.1, 1.5, 0.8, 1.1))))
    assert line.better == "nearer to 1"
    assert line.agreement.rho == pytest.approx(1)


def test_a_score_that_some_models_lack_is_ranked_on_the_others():
    line = only(report(rows(FREE, "alpha_req", (3.0, 1.5, 1.1), names=("a", "c", "e"))))
    assert line.agreement.pairs == 3
    assert [math.isnan(value) for value in line.values] == [False, True, False, True, False]


def test_floors_other_readouts_other_probes_and_labeled_scores_are_left_out():
    found = report(
        rows(FREE, "effective_rank", (1, 2, 3, 4, 5)),
        rows(FREE, "effective_rank", (5, 4, 3, 2, 1), readout="grid2"),
        rows(FREE, "effective_rank", (99,), names=("raw input",)),
        rows("linear_sgd/v1", "top1", (9, 8, 7, 6, 5)),
        rows("knn/v1", "top1", (9, 8, 7, 6, 5)),
    )
    assert found.linear == LINEAR
    assert only(found).agreement.rho == pytest.approx(1)
    assert found.sentence().endswith("(Spearman): effective rank +1.00.")


def test_fewer_than_four_models_have_no_order():
    probe = rows("linear/lbfgs-v1", "top1", LINEAR)[:3]
    free = rows(FREE, "effective_rank", (1, 2, 3, 4, 5))
    found = rank_report_of([*probe, *free], models=MODELS, data="fake")
    assert found.lines == ()
    assert found.sentence() is None
    assert [math.isnan(value) for value in found.linear] == [False] * 3 + [True] * 2


def test_the_table_has_the_best_agreement_first_and_json_no_nan():
    found = report(
        rows(FREE, "stable_rank", (2, 2, 2, 2, 2)),  # a constant orders nothing
        rows(FREE, "effective_rank", (5, 4, 3, 2, 1)),
        rows("alignment/views-v1", "lidar", (1, 2, 3, 5, 4)),
    )
    console = Console(width=120)
    with console.capture() as kept:
        console.print(found.table())
    lines = [text for text in kept.get().splitlines() if "rank" in text or "lidar" in text]
    names = ("alignment lidar", "effective rank", "stable rank")
    assert all(name in text for name, text in zip(names, lines, strict=True))
    assert all(figure in lines[0] for figure in ("+0.90", "+0.80", "0.08"))
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert plain["models"] == list(MODELS)
    constant = next(each for each in plain["scores"] if each["name"] == "stable rank")
    assert constant["rho"] is constant["tau"] is constant["chance"] is None
    assert constant["values"] == [2] * 5
