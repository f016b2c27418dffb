"""Session: one evaluation of an encoder and its floors; `unlabeled.evaluation` makes it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unlabeled.artifacts import Model
from unlabeled.data.source import DataSource
from unlabeled.encoders.encoder import Encoder
from unlabeled.evaluators.evaluator import (
    FeatureEvaluator,
    Measure,
    TaskEvaluator,
    check_labels,
    is_task,
)
from unlabeled.evaluators.fewlabel import FewLabels
from unlabeled.evaluators.labelfree import METRICS, LabelFree
from unlabeled.evaluators.named import sized
from unlabeled.evaluators.scores import RANDOM, RAW, SUPERVISED, Row, Scores
from unlabeled.evaluators.supervised import FEW_PROTOCOL, PROTOCOL, Supervised, end_to_end
from unlabeled.evaluators.tags import Tags
from unlabeled.features import Features, Progress, embed, embed_readouts

Say = Callable[[str], None]
Found = dict[str, dict[str, Features]]
"""read-out -> split -> features."""


class Session:
    """One evaluation: what is the same for the encoder and its floors."""

    def __init__(
        self,
        *,
        model: Model,
        data: DataSource,
        readouts: tuple[str, ...],
        seed: int,
        random_seeds: int,
        batch_size: int,
        device: torch.device,
        precision: str,
        cache: Path | None,
        say: Say,
        progress: Progress | None,
    ) -> None:
        self.model, self.data, self.readouts = model, data, readouts
        self.seed, self.random_seeds, self.batch_size = seed, random_seeds, batch_size
        self.device, self.precision, self.cache = device, precision, cache
        self.say, self.progress = say, progress
        self.spec = model.encoder.spec

    def run(
        self,
        protocols: Sequence[str | FeatureEvaluator | TaskEvaluator],
        floors: Sequence[str],
        supervised: Supervised | None,
        *,
        all_labels: bool,
    ) -> Scores:
        """Score the model, then the floors that were asked for."""
        start = time.perf_counter()
        named = [each for each in protocols if isinstance(each, str)]
        sized(named, train=1, seed=0)  # unknown names fail before anything is computed
        tasks = [each for each in protocols if is_task(each)]
        rows = self._tasks(tasks, floors)
        others = [each for each in protocols if not is_task(each)]
        counts, classes = {"train": self.data.size("train")}, 0
        if others or not tasks:
            more, counts, classes = self._features(others, floors, supervised, named, all_labels)
            rows += more
        settings = {
            "readouts": list(self.readouts),
            "precision": self.precision,
            "seed": self.seed,
            "spec": repr(self.spec),
            "raw": "prepared input as one vector, images at 32 px where larger",
            "random": "fresh weights, eval mode, batch norms at their first statistics (0, 1)",
            "random_seeds": self.random_seeds if "random" in floors else 0,
        }
        return Scores(
            model=self.model.name,
            data=self.data.name,
            rows=tuple(sorted(rows, key=lambda row: row.protocol.startswith("labelfree"))),
            counts=counts,
            classes=classes,
            settings=settings,
            seconds=time.perf_counter() - start,
        )

    def _features(
        self,
        protocols: Sequence[str | FeatureEvaluator],
        floors: Sequence[str],
        supervised: Supervised | None,
        named: Sequence[str],
        all_labels: bool,
    ) -> tuple[list[Row], dict[str, int], int]:
        """Rows of what is judged by embeddings, the samples a split, and the classes."""
        train = self._encode(self.model.encoder, self.model.name, "train")
        first = next(iter(train.values()))
        counts, classes = {"train": len(first)}, 0
        features: Found = {readout: {"train": value} for readout, value in train.items()}
        judges: list[FeatureEvaluator] = []
        if first.label is None:  # the named protocols all need labels
            protocols = [each for each in protocols if not isinstance(each, str)]
            if first.tags is not None and named and not protocols:
                protocols = [Tags(seed=self.seed)]
        judged = first.factors is not None or first.tags is not None
        if first.label is not None or (judged and protocols):
            for readout, value in self._encode(self.model.encoder, self.model.name, "test").items():
                features[readout]["test"] = value
            judges = sized(protocols, train=len(first), seed=self.seed)
            test = features[self.readouts[0]]["test"]
            classes = 0 if first.label is None else check_labels(first, test)[2]
            counts["test"] = len(test)
        rows = self._judge(judges, features, self.model.name)
        if "raw" in floors:
            rows += self._raw(judges)
        if "random" in floors:
            rows += self._random(judges)
        if supervised is not None and classes:
            if all_labels:
                rows += self._supervised(judges, features, supervised)
            rows += self._few(judges, features, supervised)
        return rows, counts, classes

    # Predictors that give no embedding -----------------------------------------------------------

    def _tasks(self, tasks: Sequence[TaskEvaluator], floors: Sequence[str]) -> list[Row]:
        rows = []
        for task in tasks:
            rows += self._task(task, self.model, self.model.name)
            if "raw" in floors:
                start = time.perf_counter()
                measures = task.plain(self.data)
                rows += _task_rows(task, measures, RAW, time.perf_counter() - start)
            if "random" in floors:
                found = {}
                for seed in range(self.seed, self.seed + self.random_seeds):
                    fresh = self.model.afresh(self.spec, seed=seed)
                    found[seed] = self._task(task, fresh, f"{RANDOM}, seed {seed}")
                rows += merged(found)
        return rows

    def _task(self, task: TaskEvaluator, model: Model, name: str) -> list[Row]:
        self.say(f"{name}: {task.name}")
        start = time.perf_counter()
        model.encoder.to(self.device)
        if model.method is not None:
            model.method.to(self.device)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)  # an evaluator that draws is the same each time
            measures = task.judge(model.predictor(task.needs), self.data)
        return _task_rows(task, measures, name, time.perf_counter() - start)

    # The encoder and its floors ------------------------------------------------------------------

    def _encode(self, encoder: Encoder, name: str, split: str) -> dict[str, Features]:
        self.say(f"{name}: embedding {self.data.size(split):,} samples ({split})")
        return embed_readouts(
            encoder,
            self.data,
            split=split,
            readouts=self.readouts,
            batch_size=self.batch_size,
            device=self.device,
            precision=self.precision,
            cache=self.cache,
            progress=self.progress,
        )

    def _both(self, encoder: Encoder, name: str, judges: Sequence[Any]) -> Found:
        splits = ("train", "test") if judges else ("train",)
        parts = {split: self._encode(encoder, name, split) for split in splits}
        return {
            readout: {split: parts[split][readout] for split in splits} for readout in self.readouts
        }

    def _raw(self, judges: Sequence[FeatureEvaluator]) -> list[Row]:
        spec = self.data.spec()
        raw = self.data.raw
        found = {
            split: embed(raw, self.data, split=split, spec=spec, batch_size=self.batch_size)
            for split in (("train", "test") if judges else ("train",))
        }
        rows = self._judge(judges, {"pixels": found}, RAW)
        # pixels have one read-out, which stands beside each of the encoder's
        return [replace(row, readout=readout) for readout in self.readouts for row in rows]

    def _random(self, judges: Sequence[FeatureEvaluator]) -> list[Row]:
        rows = {}
        for seed in range(self.seed, self.seed + self.random_seeds):
            encoder = self.model.afresh(self.spec, seed=seed).encoder
            name = f"{RANDOM}, seed {seed}"
            rows[seed] = self._judge(judges, self._both(encoder.eval(), name, judges), name)
        return merged(rows)

    def _supervised(
        self, judges: Sequence[FeatureEvaluator], own: Found, settings: Supervised
    ) -> list[Row]:
        pair = next(iter(own.values()))
        label, truth, classes = check_labels(pair["train"], pair["test"])
        start = time.perf_counter()
        self.say(f"{SUPERVISED}: {settings.steps(len(label)):,} steps on {len(label):,} labels")
        everything = torch.arange(len(label))
        network = self._fit(settings, everything, label, classes, self.seed)
        measured = end_to_end(
            [network], self.data, spec=self.spec, truth=truth, train=len(label), settings=settings
        )
        passed = time.perf_counter() - start
        rows = [
            Row.of(
                measured,
                name=SUPERVISED,
                readout="end to end",
                protocol=PROTOCOL,
                seconds=passed,
            )
        ]
        frozen = [judge for judge in judges if not isinstance(judge, FewLabels)]
        return rows + self._judge(
            frozen, self._both(network.encoder, SUPERVISED, judges), SUPERVISED
        )

    def _few(
        self, judges: Sequence[FeatureEvaluator], own: Found, settings: Supervised
    ) -> list[Row]:
        pair = next(iter(own.values()))
        label, truth, classes = check_labels(pair["train"], pair["test"])
        return [
            self._one_few(judge, settings, label, truth, classes)
            for judge in judges
            if isinstance(judge, FewLabels)
        ]

    def _one_few(
        self,
        judge: FewLabels,
        settings: Supervised,
        label: torch.Tensor,
        truth: torch.Tensor,
        classes: int,
    ) -> Row:
        start, draws = time.perf_counter(), judge.draw(label)
        self.say(f"{SUPERVISED}: {len(draws)} runs on {draws.shape[1]:,} labels each")
        networks = [
            self._fit(settings, places, label[places], classes, self.seed + number)
            for number, places in enumerate(draws)
        ]
        measured = end_to_end(
            networks,
            self.data,
            spec=self.spec,
            truth=truth,
            train=draws.shape[1],
            settings=settings,
        )
        return Row.of(
            measured,
            name=SUPERVISED,
            readout="end to end",
            protocol=FEW_PROTOCOL,
            seconds=time.perf_counter() - start,
            details={"share": judge.share, "draws": judge.draws},
        )

    def _fit(
        self,
        settings: Supervised,
        places: torch.Tensor,
        label: torch.Tensor,
        classes: int,
        seed: int,
    ) -> Any:
        return settings.train(
            self.model.builder,
            self.data,
            spec=self.spec,
            places=places,
            label=label,
            classes=classes,
            seed=seed,
            device=self.device,
            progress=self.progress,
        )

    # Judging -------------------------------------------------------------------------------------

    def _judge(self, judges: Sequence[FeatureEvaluator], found: Found, name: str) -> list[Row]:
        """All rows of one encoder or floor: a protocol and read-out after the other."""
        rows: list[Row] = []
        for judge in judges:
            for readout, splits in found.items():
                start = time.perf_counter()
                self.say(f"{name}: {judge.name}, {readout}")
                measures = judge.score(splits["train"], splits["test"])
                passed = time.perf_counter() - start
                rows += [
                    Row.of(
                        each, name=name, readout=readout, protocol=judge.protocol, seconds=passed
                    )
                    for each in measures
                ]
        for readout, splits in found.items():
            rows += _label_free(splits["train"], name, readout)
        return rows


def _task_rows(
    task: TaskEvaluator, measures: Sequence[Measure], name: str, seconds: float
) -> list[Row]:
    return [
        Row.of(each, name=name, readout=task.needs, protocol=task.protocol, seconds=seconds)
        for each in measures
    ]


def merged(seeds: dict[int, list[Row]], name: str = RANDOM) -> list[Row]:
    """The rows of several seeds as one list, the values of the seeds as trials."""
    rows = []
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for found in seeds.values():
        for row in found:
            groups.setdefault((row.protocol, row.readout, row.metric), []).append(row)
    for same in groups.values():  # a score that is not defined for a seed has fewer trials
        trials = tuple(row.value for row in same)
        hits = [row.hits for row in same if row.hits is not None]
        rows.append(
            replace(
                same[0],
                name=name,
                value=sum(trials) / len(trials),
                spread=float(torch.tensor(trials).std()) if len(trials) > 1 else None,
                trials=trials,
                seconds=round(sum(row.seconds for row in same), 3),
                details={**same[0].details, "seeds": list(seeds)},
                hits=torch.stack(hits).mean(0) if hits else None,
            )
        )
    return rows


def _label_free(features: Features, name: str, readout: str) -> list[Row]:
    judge, start = LabelFree(), time.perf_counter()
    values = judge.score(features)
    passed = time.perf_counter() - start
    return [
        Row(
            name=name,
            readout=readout,
            protocol=judge.protocol,
            metric=metric,
            value=values[metric],
            unit="",
            trials=(values[metric],),
            train=int(values["samples"]),
            seconds=round(passed, 3),
            details={"dim": int(values["dim"])},
        )
        for metric in METRICS
        if math.isfinite(values[metric])
    ]
