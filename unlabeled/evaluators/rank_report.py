"""RankReport: whether scores that need no labels order models as linear accuracy does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unlabeled.evaluators.scores import LABEL_FREE, Row, score_name
from unlabeled.ops.ranks import RankCorrelation, rank_correlation

if TYPE_CHECKING:
    from rich.table import Table

FEWEST = 4
"""Models that an order is worth looking at of."""
WITHOUT_LABELS = (LABEL_FREE, "alignment", "rotation")
NEARER_ONE = "alpha_req"
"""The metric that is best near 1 rather than large or small."""


@dataclass(frozen=True, kw_only=True)
class RankLine:
    """One score without labels.

    Args:
        name: of the score.
        better: "higher", "lower" or "nearer to 1": what the score takes for the better model.
        values: of each model, in the report's order; NaN where it is not defined.
        agreement: of that order with the order of linear accuracy; 1 is the same order.
    """

    name: str
    better: str
    values: tuple[float, ...]
    agreement: RankCorrelation


@dataclass(frozen=True, kw_only=True)
class RankReport:
    """How each score without labels orders models, beside the accuracy of the linear probe.

    Args:
        data: its name.
        models: their names.
        linear: accuracy of each in percent; NaN where there is none.
        lines: one a score.
    """

    data: str
    models: tuple[str, ...]
    linear: tuple[float, ...]
    lines: tuple[RankLine, ...]

    def sentence(self) -> str | None:
        """Return all rank correlations in one sentence; None where no score has an order."""
        known = [line for line in self.lines if not math.isnan(line.agreement.rho)]
        if not known:
            return None
        said = ", ".join(f"{line.name} {line.agreement.rho:+.2f}" for line in known)
        return (
            f"order of {len(self.models)} entries without labels beside that of the linear probe "
            f"(Spearman): {said}."
        )

    def table(self) -> Table:
        """Return one line a score, the best agreement first."""
        from rich.table import Table

        table = Table(
            title=f"order of {len(self.models)} models beside linear accuracy, on {self.data}",
            title_justify="left",
        )
        for name in ("score", "better is"):
            table.add_column(name)
        for name in ("Spearman rho", "Kendall tau", "by chance", "models"):
            table.add_column(name, justify="right")
        order = sorted(
            self.lines,
            key=lambda line: (math.isnan(line.agreement.rho), -line.agreement.rho),
        )
        for line in order:
            found = line.agreement
            figures = [
                _figure(found.rho, "+.2f"),
                _figure(found.tau, "+.2f"),
                _figure(found.chance, ".2f"),
            ]
            table.add_row(line.name, line.better, *figures, str(found.pairs))
        return table

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain values; what is not defined is None."""
        return {
            "data": self.data,
            "models": list(self.models),
            "linear": [_plain(value) for value in self.linear],
            "scores": [
                {
                    "name": line.name,
                    "better": line.better,
                    "values": [_plain(value) for value in line.values],
                    **{key: _plain(value) for key, value in line.agreement._asdict().items()},
                }
                for line in self.lines
            ],
        }


def rank_report_of(rows: Sequence[Row], *, models: Sequence[str], data: str) -> RankReport:
    """Return the report on rows that `unlabeled.compare.compare` or `evaluate` made.

    Higher agreement is better for every score: those that fall as models improve are turned around,
    and alpha-ReQ counts by its distance from 1 (`labelfree.alpha_req`). Of several read-outs, or
    several linear probes, the one that comes first is used.

    Args:
        rows: of all models; those of other names (floors) are left out.
        models: names, in the order of the report.
        data: name of the data.

    Returns:
        A report without lines where fewer than `FEWEST` models have a linear probe.
    """
    linear: dict[str, float] = {}
    found: dict[str, dict[str, Row]] = {}
    probe = next((row.protocol for row in rows if _stem(row).startswith("linear")), None)
    for row in rows:
        if row.name not in models:
            continue
        if row.protocol == probe and row.metric == "top1":
            linear.setdefault(row.name, row.value)
        elif _stem(row) in WITHOUT_LABELS:
            found.setdefault(score_name(row), {}).setdefault(row.name, row)
    accuracy = tuple(linear.get(name, math.nan) for name in models)
    lines = []
    for name, of in found.items() if len(linear) >= FEWEST else ():
        any_row = next(iter(of.values()))
        better, sense = _sense(any_row)
        values = tuple(of[each].value if each in of else math.nan for each in models)
        merit = [sense * (abs(v - 1) if better == "nearer to 1" else v) for v in values]
        agreement = rank_correlation(merit, accuracy)
        lines.append(RankLine(name=name, better=better, values=values, agreement=agreement))
    return RankReport(data=data, models=tuple(models), linear=accuracy, lines=tuple(lines))


def _sense(row: Row) -> tuple[str, int]:
    if row.metric == NEARER_ONE:
        return "nearer to 1", -1
    return ("higher", 1) if row.higher_is_better else ("lower", -1)


def _stem(row: Row) -> str:
    return row.protocol.partition("/")[0]


def _figure(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
