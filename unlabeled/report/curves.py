"""Curves of a run: what was logged, grouped into small charts and thinned."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MOST_POINTS = 400


@dataclass(frozen=True, kw_only=True)
class Line:
    """One logged value over the steps."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Lines that share their axes; ``zero`` says whether the vertical axis begins at 0."""

    title: str
    note: str
    lines: tuple[Line, ...]
    zero: bool = True


_KNOWN = (
    # prefix or key, title, note, vertical axis from zero
    ("loss/", "Loss", "lower is better for the method, not always for what you do with it", False),
    ("knn/", "kNN accuracy", "leave-one-out, inside the training set", False),
    (
        "health/std",
        "Embedding spread",
        "relative standard deviation: 1 spread evenly, 0 collapsed",
        True,
    ),
    ("health/rank", "Effective rank", "how many dimensions the embeddings really use", True),
    ("optim/", "Optimizer", "", True),
    ("lr", "Learning rate", "", True),
    ("speed/samples_per_second", "Samples a second", "", True),
    ("speed/data_wait", "Waiting for data", "share of the time; 0 is best", True),
)
_NAMES = {"health/rank": "views", "health/rank_plain": "plain images"}


def charts(rows: Iterable[Mapping[str, float]]) -> tuple[Chart, ...]:
    """Group logged rows ({"step": 3, "loss/x": 1.2, ...}) into charts.

    Values that are not finite are left out, and so are lines of fewer than two points. Names
    that are not known here get a chart for each first part of the name.
    """
    series: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for key, value in row.items():
            if key not in ("step", "epoch") and math.isfinite(value):
                series.setdefault(key, []).append((int(row["step"]), value))
    groups: dict[str, tuple[str, str, bool, list[Line]]] = {}
    for prefix, title, note, zero in _KNOWN:
        groups[prefix] = (title, note, zero, [])
    for key in sorted(series):
        if len(series[key]) < 2:
            continue
        other = key.partition("/")[0]
        prefix = next((known for known, *_ in _KNOWN if key.startswith(known)), other)
        groups.setdefault(prefix, (prefix, "", False, []))
        steps, values = zip(*thin(changes(series[key])), strict=True)
        name = _NAMES.get(key) or key.partition("/")[2].replace("_", " ") or key
        groups[prefix][3].append(Line(name=name, steps=steps, values=values))
    return tuple(
        Chart(title=title, note=note, zero=zero, lines=tuple(lines))
        for title, note, zero, lines in groups.values()
        if lines
    )


def changes(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Keep the points where the value changes, and the last one.

    Loggers repeat the last value of what is measured only now and then.
    """
    kept = [
        point
        for before, point in zip([None, *points], points, strict=False)
        if before is None or before[1] != point[1]
    ]
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def thin(points: list[tuple[int, float]], *, most: int = MOST_POINTS) -> list[tuple[int, float]]:
    """Keep at most ``most`` points: the first, the last, and evenly spaced ones between."""
    if len(points) <= most:
        return points
    return [points[round(place * (len(points) - 1) / (most - 1))] for place in range(most)]
