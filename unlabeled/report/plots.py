"""Line charts as SVG: drawn here, colored and read out by the page's style and script."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import Any

from unlabeled.report.curves import Chart, Line

PALETTE = (
    # Petroff 2021 (arXiv:2107.02270): ten colors that stay apart under color-vision deficiencies
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 350, 10, 164


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A range of values, its ticks, and the pixels that its ends have."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Return the pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def plot(chart: Chart, *, number: int) -> str:
    """Return the chart as a <figure>; ``number`` is its place in `data`'s list."""
    steps, values = axes(chart)
    parts = [_grid(steps, values)]
    for place, line in enumerate(chart.lines):
        parts.append(
            f'<path class="line" style="stroke:{_color(chart, place)}" '
            f'd="{_path(line, steps, values)}"/>'
        )
    parts.append(f'<line class="cursor" x1="{LEFT}" x2="{LEFT}" y1="{TOP}" y2="{BOTTOM}"/>')
    last = " · ".join(f"{line.values[-1]:.3g}" for line in chart.lines)
    keys = ""
    if len(chart.lines) > 1:
        keys = "".join(
            f'<span><i style="background:{_color(chart, place)}"></i>{escape(line.name)}</span>'
            for place, line in enumerate(chart.lines)
        )
        keys = f'<div class="keys">{keys}</div>'
    note = f"<figcaption>{escape(chart.note)}</figcaption>" if chart.note else ""
    return (
        f'<figure class="chart" data-chart="{number}"><header><h3>{escape(chart.title)}</h3>'
        f'<span class="reading">last {last}</span></header>{keys}'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(chart.title)}, last value {last}">{"".join(parts)}</svg>{note}'
        "</figure>"
    )


def data(chart: Chart) -> dict[str, Any]:
    """Return what the script needs to read values off a chart."""
    steps, _ = axes(chart)
    return {
        "width": WIDTH,
        "left": LEFT,
        "right": RIGHT,
        "first": steps.low,
        "last": steps.high,
        "lines": [
            {"steps": line.steps, "values": [float(f"{value:.5g}") for value in line.values]}
            for line in chart.lines
        ],
    }


def axes(chart: Chart) -> tuple[Axis, Axis]:
    """Return the axes of steps and of values, each with room for what it shows."""
    steps = [step for line in chart.lines for step in (line.steps[0], line.steps[-1])]
    values = [value for line in chart.lines for value in line.values]
    low, high = min(values), max(values)
    if chart.zero and low >= 0:
        low = 0.0
    spare = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    bottom = low if chart.zero and low == 0 else low - spare
    return (
        _axis(min(steps), max(min(steps) + 1, *steps), LEFT, RIGHT, count=4, whole=True),
        _axis(bottom, high + spare, BOTTOM, TOP, count=4),
    )


def _axis(
    low: float, high: float, start: float, end: float, *, count: int, whole: bool = False
) -> Axis:
    rough = max(1.0, (high - low) / count) if whole else (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    factors = (1, 2, 5, 10) if whole else (1, 2, 2.5, 5, 10)
    step = next(power * factor for factor in factors if power * factor >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    ticks = tuple(number * step for number in range(first, last + 1))
    return Axis(low=low, high=high, start=start, end=end, ticks=ticks)


def _grid(steps: Axis, values: Axis) -> str:
    parts = []
    for tick in values.ticks:
        y = f"{values.place(tick):.1f}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(
            f'<text x="{LEFT - 6}" y="{y}" dy=".35em" text-anchor="end">{_tick(tick)}</text>'
        )
    for tick in steps.ticks:
        x = steps.place(tick)
        anchor = "end" if x > RIGHT - 12 else "middle"
        parts.append(
            f'<text x="{x:.1f}" y="{BOTTOM + 16}" text-anchor="{anchor}">{_tick(tick)}</text>'
        )
    return "".join(parts)


def _tick(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    text = f"{value:.4g}"
    return "0" if float(text) == 0 else text


def _path(line: Line, steps: Axis, values: Axis) -> str:
    points = (
        f"{steps.place(step):.1f},{values.place(value):.1f}"
        for step, value in zip(line.steps, line.values, strict=True)
    )
    return "M" + "L".join(points)


def _color(chart: Chart, place: int) -> str:
    return "var(--accent)" if len(chart.lines) == 1 else PALETTE[place % len(PALETTE)]
