"""Scores: the figures of an encoder and its floors, as a table, as JSON and as sentences."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from unlabeled.evaluators.evaluator import Measure
from unlabeled.features import READOUTS

if TYPE_CHECKING:
    from rich.table import Table

RAW, RANDOM, SUPERVISED = "raw input", "random weights", "supervised"
LABEL_FREE = "labelfree"
TASK_SHOWS = {
    RAW: "the network does better than none",
    RANDOM: "the gain is the training's, not the architecture's",
}
TASK_WORSE = {
    RAW: "no network does better",
    RANDOM: "training has made it worse",
}
SHOWS = {
    RAW: "the features hold the classes better than the input does, for this read-out",
    RANDOM: "the gain is the training's, not the architecture's",
    SUPERVISED: "training without labels gave more here than this short run with labels",
}
WORSE = {
    RAW: "the input does better",
    RANDOM: "training has made the features worse for this",
    SUPERVISED: "labels still give more",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of one encoder or floor.

    ``spread`` is the sample standard deviation over ``trials`` (draws of labels, or seeds of
    random weights), None for a single trial. ``train`` and ``test`` count samples. Accuracies are
    in percent (unit "%"). ``readout`` is what of a model was judged: of embeddings the read-out,
    else the predictor's name.
    """

    name: str
    readout: str
    protocol: str
    metric: str
    value: float
    unit: str = "%"
    higher_is_better: bool = True
    spread: float | None = None
    trials: tuple[float, ...] = ()
    train: int = 0
    test: int = 0
    seconds: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)
    hits: Tensor | None = None

    @staticmethod
    def of(
        found: Measure,
        *,
        name: str,
        readout: str,
        protocol: str,
        seconds: float,
        details: dict[str, Any] | None = None,
    ) -> Row:
        """Name a measure."""
        return Row(
            name=name,
            readout=readout,
            protocol=protocol,
            metric=found.metric,
            value=found.value,
            unit=found.unit,
            higher_is_better=found.higher_is_better,
            spread=found.spread,
            trials=found.trials,
            train=found.train,
            test=found.test,
            seconds=round(seconds, 3),
            details={**found.details, **(details or {})},
            hits=found.hits,
        )

    def to_json(self) -> dict[str, Any]:
        """Return all but ``hits`` as plain values."""
        return {
            "name": self.name,
            "readout": self.readout,
            "protocol": self.protocol,
            "metric": self.metric,
            "value": self.value,
            "unit": self.unit,
            "higher_is_better": self.higher_is_better,
            "spread": self.spread,
            "trials": list(self.trials),
            "train": self.train,
            "test": self.test,
            "seconds": self.seconds,
            "details": self.details,
        }


@dataclass(frozen=True)
class Comparison:
    """The encoder beside a floor under one protocol.

    ``margin`` is two standard errors of the difference: of the test samples (paired, since both
    were judged on the same ones) and of the means over draws or seeds. A difference within it is
    not shown.
    """

    encoder: Row
    floor: Row

    @property
    def difference(self) -> float:
        """How far the encoder is ahead of the floor: negative where it is behind."""
        ahead = self.encoder.value - self.floor.value
        return ahead if self.encoder.higher_is_better else -ahead

    @property
    def margin(self) -> float:
        """Two standard errors of the difference, in the metric's unit."""
        scale = 100 if self.encoder.unit == "%" else 1
        squares = 0.0
        if self.encoder.hits is not None and self.floor.hits is not None:
            paired = scale * (self.encoder.hits.double() - self.floor.hits.double())
            squares += float(paired.var(correction=0)) / len(paired)
        for row in (self.encoder, self.floor):
            if row.spread is not None:
                squares += row.spread**2 / len(row.trials)
        return 2 * math.sqrt(squares)

    @property
    def shown(self) -> bool:
        """Whether the difference exceeds the margin."""
        return abs(self.difference) > self.margin

    def sentence(self) -> str:
        """Say what the comparison shows, or that it shows nothing."""
        kind = next(kind for kind in SHOWS if self.floor.name.startswith(kind))
        embedded = self.encoder.readout in READOUTS
        better = SHOWS if embedded else TASK_SHOWS | {SUPERVISED: SHOWS[SUPERVISED]}
        worse = WORSE if embedded else TASK_WORSE | {SUPERVISED: WORSE[SUPERVISED]}
        meaning = better[kind] if self.difference > 0 else worse[kind]
        unit = "points" if self.encoder.unit == "%" else self.encoder.unit
        whole = "" if self.floor.protocol == self.encoder.protocol else ", end to end"
        head = (
            f"{self.encoder.protocol} {self.encoder.metric}, {self.encoder.readout}: "
            f"{self.encoder.value:.1f} against {self.floor.value:.1f} of {self.floor.name}{whole}, "
            f"{self.difference:+.1f} ± {self.margin:.1f} {unit}".rstrip()
        )
        return f"{head}: {meaning if self.shown else 'no difference shown'}."


@dataclass(frozen=True, kw_only=True)
class Scores:
    """All that an evaluation found.

    Args:
        model: the encoder's name.
        data: the data's name.
        rows: the encoder's first, then the floors'; label-free scores among them.
        counts: samples a split.
        classes: how many, 0 without labels.
        settings: precision, read-outs, seed, and how the floors were made.
        seconds: of the whole evaluation.
    """

    model: str
    data: str
    rows: tuple[Row, ...]
    counts: dict[str, int]
    classes: int
    settings: dict[str, Any]
    seconds: float

    def comparisons(self) -> list[Comparison]:
        """The encoder beside each floor that has the same protocol, metric and read-out.

        A supervised network that was trained end to end has no read-out: it stands beside all.
        """
        scored = [row for row in self.rows if not row.protocol.startswith(LABEL_FREE)]
        own = [row for row in scored if row.name == self.model]
        floors = [row for row in scored if row.name != self.model]
        return [
            Comparison(row, floor) for row in own for floor in floors if _comparable(row, floor)
        ]

    def sentences(self) -> list[str]:
        """One sentence a comparison, then what none of them shows."""
        found = [each.sentence() for each in self.comparisons()]
        if not self.classes and not found:
            return [
                "There are no labels here: label-free scores say whether the features collapsed, "
                "not whether they are useful for anything."
            ]
        return [
            *found,
            "This is one encoder on one data set: what another seed or other data would give is "
            "not shown; ± here is two standard errors over test samples, draws of labels and "
            "random weights.",
        ]

    def to_json(self) -> dict[str, Any]:
        """Return all figures with protocol ids, counts and settings, as plain values."""
        return {
            "model": self.model,
            "branch": "encoder",
            "data": self.data,
            "samples": self.counts,
            "classes": self.classes,
            "settings": self.settings,
            "rows": [row.to_json() for row in self.rows],
            "comparisons": [
                {
                    "protocol": each.encoder.protocol,
                    "metric": each.encoder.metric,
                    "readout": each.encoder.readout,
                    "floor": each.floor.name,
                    "floor_protocol": each.floor.protocol,
                    "difference": each.difference,
                    "margin": each.margin,
                    "shown": each.shown,
                }
                for each in self.comparisons()
            ],
            "sentences": self.sentences(),
            "seconds": round(self.seconds, 2),
        }

    def table(self) -> Table:
        """Return one line a protocol and read-out; each floor with the encoder's lead over it."""
        from rich.table import Table

        names = list(dict.fromkeys(row.name for row in self.rows))
        table = Table(title=f"{self.model} on {self.data}", title_justify="left")
        for name in ("score", "read-out"):
            table.add_column(name)
        for name in names:
            table.add_column(name, justify="right")
        if self.comparisons():
            table.caption = "in parentheses: how far the encoder is over it; ? is within the noise"
        over = {id(each.floor): each for each in self.comparisons()}
        for key in dict.fromkeys(_key(row) for row in self.rows):
            line = {row.name: row for row in self.rows if _key(row) == key}
            cells = [
                _cell(line[name], over.get(id(line[name]))) if name in line else ""
                for name in names
            ]
            first = next(iter(line.values()))
            table.add_row(score_name(first), first.readout, *cells)
        return table


def _comparable(row: Row, floor: Row) -> bool:
    if floor.protocol == row.protocol:
        return (floor.metric, floor.readout) == (row.metric, row.readout)
    # end to end on few labels beside probes on few labels, on all labels beside those on all
    few = row.protocol.startswith("fewlabel")
    apart = floor.protocol.startswith("fewlabel/supervised") if few else False
    whole = floor.protocol.startswith("supervised") and row.protocol.startswith("linear")
    return floor.metric == row.metric and (apart or whole)


def _key(row: Row) -> tuple[str, str, str]:
    return row.protocol, row.readout, row.metric


def score_name(row: Row) -> str:
    """Return what a row measures, for a table."""
    kind = row.protocol.partition("/")[0]
    if kind == LABEL_FREE:
        return row.metric.replace("_", " ")
    share = f" {row.details['share']:.3g}" if "share" in row.details else ""
    return f"{kind}{share} {row.metric}"


def cell(row: Row) -> str:
    """Return the value with its spread, for a table."""
    digits = 2 if row.metric == "relative_std" else 1
    spread = "" if row.spread is None else f" ± {row.spread:.{digits}f}"
    return f"{row.value:.{digits}f}{spread}"


def _cell(row: Row, over: Comparison | None) -> str:
    text = cell(row)
    if over is None or over.floor.protocol != over.encoder.protocol:
        return text
    if not over.shown:
        return f"{text} [dim]({over.difference:+.1f}?)[/dim]"
    color = "green" if over.difference > 0 else "red"
    return f"{text} [{color}]({over.difference:+.1f})[/{color}]"
