"""compare(): several encoders under the same protocols, and which differences are shown."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from unlabeled.artifacts import Model, Run, load
from unlabeled.data.source import DataSource
from unlabeled.encoders.encoder import Encoder
from unlabeled.evaluation import data_for, evaluate, own_protocols
from unlabeled.evaluators.named import resolved
from unlabeled.evaluators.rank_report import RankReport, rank_report_of
from unlabeled.evaluators.scores import LABEL_FREE, RANDOM, RAW, Comparison, Row, cell, score_name
from unlabeled.recipe import describe, fingerprint
from unlabeled.session import Say, merged

if TYPE_CHECKING:
    from rich.table import Table

MODELS = str | Path | Run | Model | Encoder


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a comparison: the seeds of one recipe, or a single model.

    Args:
        name: for the table.
        members: what `unlabeled.artifacts.load` takes, one a seed.
        parameters: of the encoder.
        dim: of its embeddings.
        training: seconds of training a seed; None for what is no run.
        seconds: of this evaluation, all seeds together.
    """

    name: str
    members: tuple[Any, ...]
    parameters: int = 0
    dim: int = 0
    training: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What `compare` found: the rows of all entries and floors, in the order asked for."""

    data: str
    entries: tuple[Entry, ...]
    rows: tuple[Row, ...]
    counts: dict[str, int]

    def sentences(self) -> list[str]:
        """A sentence a score: which entry leads, and over which others the difference is shown."""
        found = [
            _sentence(rows)
            for rows in self._scores(entries_only=True).values()
            if not rows[0].protocol.startswith(LABEL_FREE)
        ]
        order = self.ranks().sentence()
        if order is not None:
            found.append(order)
        if any(len(entry.members) < 2 for entry in self.entries):
            found.append(
                "± is two standard errors over test samples, draws and seeds; where an entry has "
                "one seed, what another seed would give is not in it."
            )
        return found

    def ranks(self) -> RankReport:
        """How each score without labels orders the entries beside linear accuracy."""
        names = [entry.name for entry in self.entries]
        return rank_report_of(self.rows, models=names, data=self.data)

    def table(self) -> Table:
        """Return one line a score, one column an entry or floor; the best of a line is bold."""
        from rich.table import Table

        names = list(dict.fromkeys(row.name for row in self.rows))
        own = {entry.name: entry for entry in self.entries}
        table = Table(title=f"on {self.data}", title_justify="left")
        table.add_column("score")
        table.add_column("read-out")
        for name in names:
            table.add_column(name, justify="right", overflow="fold")
        for rows in self._scores(entries_only=False).values():
            line = {row.name: row for row in rows}
            free = rows[0].protocol.startswith(LABEL_FREE)
            best = None if free else _leader([row for row in rows if row.name in own])
            cells = [
                _bold(cell(line[name]), it_is=line[name] is best) if name in line else ""
                for name in names
            ]
            table.add_row(score_name(rows[0]), rows[0].readout, *cells)
        table.add_section()
        facts = (
            ("parameters", [f"{entry.parameters:,}" for entry in self.entries]),
            ("width", [f"{entry.dim:,}" for entry in self.entries]),
            ("seeds", [str(len(entry.members)) for entry in self.entries]),
            (
                "training, s",
                ["" if each.training is None else f"{each.training:,.0f}" for each in self.entries],
            ),
            ("evaluation, s", [f"{entry.seconds:,.1f}" for entry in self.entries]),
        )
        for label, cells in facts:
            table.add_row(label, "", *cells)
        return table

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "data": self.data,
            "samples": self.counts,
            "entries": [
                {
                    "name": entry.name,
                    "members": [str(_path(each)) for each in entry.members],
                    "parameters": entry.parameters,
                    "dim": entry.dim,
                    "training_seconds": entry.training,
                    "seconds": round(entry.seconds, 2),
                }
                for entry in self.entries
            ],
            "rows": [row.to_json() for row in self.rows],
            "sentences": self.sentences(),
            "ranks": self.ranks().to_json(),
        }

    def _scores(self, *, entries_only: bool) -> dict[tuple[str, str, str], list[Row]]:
        """(protocol, metric, read-out) -> its rows."""
        own = {entry.name for entry in self.entries}
        found: dict[tuple[str, str, str], list[Row]] = {}
        for row in self.rows:
            if row.name in own or not entries_only:
                found.setdefault((row.protocol, row.metric, row.readout), []).append(row)
        return found


def compare(
    models: Sequence[MODELS],
    *,
    data: str | DataSource | None = None,
    protocols: Sequence[Any] | None = None,
    floors: Sequence[str] = ("raw", "random"),
    readouts: Sequence[str] | None = ("pooled",),
    seed: int = 0,
    random_seeds: int = 3,
    batch_size: int = 512,
    image_size: int | None = None,
    device: str | torch.device | None = None,
    precision: str | None = None,
    cache: Path | None = None,
    say: Say | None = None,
) -> Compared:
    """Score several encoders alike, on the same samples.

    Runs of one recipe that differ in their seed are one entry, whose spread is that of the seeds;
    a folder that holds runs (such as ``runs/bench/simclr-small``) stands for all finished ones in
    it. The raw input is judged once, random weights once for each architecture.

    Args:
        models: at least two of what `unlabeled.evaluation.evaluate` takes.
        data: labeled data; by default that of the runs, if it is the same for all.
        protocols: names or evaluators; by default those of the first run's recipe, else knn,
            linear and fewlabel.
        floors: "raw", "random", both or none.
        readouts: as for `evaluate`; one of them by default, to keep the table short.
        seed: of draws, splits and random weights.
        random_seeds: random encoders of each architecture.
        batch_size: samples of a forward pass.
        image_size: side in pixels for models given by name.
        device: where to compute.
        precision: of forward passes.
        cache: a folder that keeps the features.
        say: told which model is judged, a line each.

    Raises:
        ValueError: fewer than two models, runs on different data where none is named, a folder
            without finished runs, or what `evaluate` refuses.
    """
    entries = entries_of(models)
    members = [member for entry in entries for member in entry.members]
    source = _common_data(members, data)
    if protocols is None:
        runs = [member for member in members if _as_run(member) is not None]
        protocols = own_protocols((runs or members)[0])
    judges = resolved(protocols)
    rows: list[Row] = []
    below: list[Row] = []
    seen: set[str] = set()
    counts: dict[str, int] = {}
    judged = []
    for entry in entries:
        start = time.perf_counter()
        found: dict[int, list[Row]] = {}
        loaded = None
        for number, member in enumerate(entry.members):
            named = not isinstance(member, str | Path) or not Path(member).exists()
            loaded = load(member, data=source, image_size=image_size if named else None)
            if say is not None:
                say(f"{entry.name}: {number + 1} of {len(entry.members)}, {_path(member)}")
            wanted = _wanted(loaded, floors, seen)
            scores = evaluate(
                replace(loaded, name=entry.name),
                data=source,
                protocols=judges,
                floors=wanted,
                readouts=readouts,
                seed=seed,
                random_seeds=random_seeds,
                batch_size=batch_size,
                device=device,
                precision=precision,
                cache=cache,
            )
            counts = counts or scores.counts
            found[number] = [row for row in scores.rows if row.name == entry.name]
            below += [
                replace(row, name=f"{RANDOM}, {entry.name}") if row.name == RANDOM else row
                for row in scores.rows
                if row.name != entry.name
            ]
        rows += found[0] if len(found) == 1 else merged(found, entry.name)
        assert loaded is not None
        judged.append(
            replace(
                entry,
                parameters=sum(each.numel() for each in loaded.encoder.parameters()),
                dim=loaded.encoder.dim,
                training=_training(entry.members),
                seconds=time.perf_counter() - start,
            )
        )
    if len(seen) == 1:
        below = [replace(row, name=RANDOM) if row.name != RAW else row for row in below]
    return Compared(data=source.name, entries=tuple(judged), rows=(*rows, *below), counts=counts)


# Entries -----------------------------------------------------------------------------------------


def entries_of(models: Sequence[MODELS]) -> list[Entry]:
    """Return the models as entries: runs that differ in nothing but their seed are one.

    Raises:
        ValueError: fewer than two entries, or a folder that holds no finished run.
    """
    groups: dict[Any, list[Any]] = {}
    for model in models:
        for member in _expanded(model):
            groups.setdefault(_group(member), []).append(member)
    if len(groups) < 2:
        raise ValueError(
            "compare needs two models or more (seeds of one recipe are one): name another run, "
            "file or timm/NAME"
        )
    names = [_name(members[0]) for members in groups.values()]
    return [
        Entry(
            name=name if names.count(name) == 1 else f"{name} ({_path(members[0])})",
            members=tuple(members),
        )
        for name, members in zip(names, groups.values(), strict=True)
    ]


def _expanded(model: MODELS) -> list[Any]:
    if not isinstance(model, str | Path) or not Path(model).is_dir() or Run(model).started:
        return [model]
    inside = [Run(each) for each in sorted(Path(model).iterdir()) if each.is_dir()]
    runs = [run for run in inside if run.started]
    done = [run for run in runs if run.finished]
    if not done:
        state = f"its {len(runs)} runs are unfinished" if runs else "neither a run nor runs in it"
        raise ValueError(f"{model}: {state}: give a run folder, or a folder of finished runs")
    return done


def _group(member: Any) -> Any:
    """What is the same for the seeds of one recipe; of a model its text, of an object itself."""
    run = _as_run(member)
    if run is not None:
        return fingerprint(replace(run.recipe, seed=0))
    return str(member) if isinstance(member, str | Path) else id(member)


def _as_run(member: Any) -> Run | None:
    run = Run(member) if isinstance(member, str | Path) else member
    return run if isinstance(run, Run) and run.started else None


def _name(member: Any) -> str:
    run = _as_run(member)
    if run is not None:
        return run.name
    return member.name if isinstance(member, Model) else str(_path(member))


def _path(member: Any) -> Any:
    if isinstance(member, Run):
        return member.path
    return member if isinstance(member, str | Path) else type(member).__name__


def _training(members: Sequence[Any]) -> float | None:
    runs = [_as_run(member) for member in members]
    taken = [run.status().get("seconds") for run in runs if run is not None]
    known = [float(each) for each in taken if each is not None]
    return sum(known) / len(known) if known else None


def _common_data(members: Sequence[Any], data: str | DataSource | None) -> DataSource:
    if data is not None:
        return data_for(None, data)
    runs = [run for member in members if (run := _as_run(member)) is not None]
    sources = [run.recipe.data for run in runs] or [data_for(members[0], None)]
    other = next((each for each in sources if each != sources[0]), None)
    if other is not None:
        raise ValueError(
            f"these runs are of different data ({sources[0].name}, {other.name}): say on which to "
            "judge them (--data)"
        )
    return sources[0]


# Floors ------------------------------------------------------------------------------------------


def _wanted(model: Model, floors: Sequence[str], seen: set[str]) -> list[str]:
    """The floors that this model adds: raw with the first, random with each new architecture."""
    wanted = ["raw"] if "raw" in floors and not seen else []
    key = json.dumps([describe(model.builder), describe(model.encoder.spec)], sort_keys=True)
    if key not in seen and "random" in floors and model.builder is not None:
        wanted.append("random")
    seen.add(key)
    return wanted


# Words -------------------------------------------------------------------------------------------


def _apart(pair: Comparison) -> str:
    margin = f"± {pair.margin:.1f}" if pair.margin else "with one seed, spread not known"
    return f"{pair.floor.name} by {pair.difference:.1f} {margin}"


def _bold(text: str, *, it_is: bool) -> str:
    return f"[bold]{text}[/bold]" if it_is else text


def _leader(rows: Sequence[Row]) -> Row:
    return max(rows, key=lambda row: row.value if row.higher_is_better else -row.value)


def _sentence(rows: Sequence[Row]) -> str:
    best = _leader(rows)
    others = [Comparison(best, row) for row in rows if row is not best]
    unit = "points" if best.unit == "%" else best.unit
    # without seeds and without a value for each sample there is no margin to hold it against
    ahead = [_apart(each) for each in others if each.shown and each.margin]
    level = [_apart(each) for each in others if not each.shown or not each.margin]
    head = f"{score_name(best)}, {best.readout}: {best.name} leads with {best.value:.1f}"
    parts = []
    if ahead:
        parts.append(f"over {', '.join(ahead)} {unit}".rstrip())
    if level:
        parts.append(f"not told apart from it: {', '.join(level)}")
    return f"{head}; {'; '.join(parts)}."
