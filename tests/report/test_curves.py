"""Curves: groups, gaps, and how they are thinned."""

from __future__ import annotations

import itertools
import math

import pytest

from unlabeled.report.curves import MOST_POINTS, changes, charts, thin
from unlabeled.report.plots import LEFT, RIGHT, axes, plot


def test_names_fall_into_charts_and_loss_comes_first():
    rows = [
        {"step": step, "epoch": 0, "speed/data_wait": step, "health/rank": step, "loss/a": step}
        | {"loss/b": 2 * step, "health/rank_plain": step, "other/thing": step}
        for step in range(3)
    ]
    found = {chart.title: [line.name for line in chart.lines] for chart in charts(rows)}
    assert next(iter(found)) == "Loss"
    assert found["Loss"] == ["a", "b"]
    assert found["Effective rank"] == ["views", "plain images"]
    assert found["other"] == ["thing"]
    assert sum(map(len, found.values())) == 6


def test_values_that_are_not_finite_and_single_points_are_left_out():
    rows = [{"step": 0, "loss/a": math.nan}, {"step": 1, "loss/a": 1.0, "loss/b": 2.0}]
    rows += [{"step": 2, "loss/a": math.inf}, {"step": 3, "loss/a": 0.5}]
    (chart,) = charts(rows)
    (line,) = chart.lines
    assert (line.steps, line.values) == ((1, 3), (1.0, 0.5))
    assert charts([]) == ()


def test_repeated_values_count_once_but_the_last_point_stays():
    points = [(0, 1.0), (1, 1.0), (2, 3.0), (3, 3.0), (4, 3.0)]
    assert changes(points) == [(0, 1.0), (2, 3.0), (4, 3.0)]
    assert changes([(0, 1.0), (5, 2.0)]) == [(0, 1.0), (5, 2.0)]


def test_thinning_keeps_both_ends_and_the_order():
    points = [(step, float(step)) for step in range(12_345)]
    kept = thin(points)
    assert len(kept) == len(set(kept)) == MOST_POINTS
    assert kept == sorted(kept)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    gaps = {second[0] - first[0] for first, second in itertools.pairwise(kept)}
    assert max(gaps) - min(gaps) <= 1
    assert thin(points[:MOST_POINTS]) == points[:MOST_POINTS]


@pytest.mark.parametrize("values", [(1.0, 1.0), (0.0, 0.0), (-3.0, 5.0), (1e-9, 2e-9), (1e9, 3e9)])
def test_axes_hold_all_values(values):
    (chart,) = charts([{"step": 10 * at, "thing": value} for at, value in enumerate(values)])
    steps, heights = axes(chart)
    assert heights.low <= min(values)
    assert max(values) <= heights.high
    assert heights.low < heights.high
    assert steps.place(steps.low) == LEFT
    assert steps.place(steps.high) == RIGHT
    assert 2 <= len(heights.ticks) <= 6
    assert all(heights.low <= tick <= heights.high * (1 + 1e-6) for tick in heights.ticks)
    assert "nan" not in plot(chart, number=0)


@pytest.mark.parametrize("last", [1, 3, 14, 15, 100, 23_450])
def test_ticks_of_steps_are_steps(last):
    (chart,) = charts([{"step": step, "thing": step} for step in (0, last)])
    ticks = axes(chart)[0].ticks
    assert all(tick == int(tick) for tick in ticks)
    assert 2 <= len(ticks) <= 6
