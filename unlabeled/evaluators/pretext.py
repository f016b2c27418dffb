"""The accuracy of a pretext task: how often a method gives the answer that its views recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from unlabeled.data.order import spread
from unlabeled.data.source import DataSource
from unlabeled.evaluators.evaluator import Measure, device_of, flatten, measure
from unlabeled.views.generator import SampleGenerator

CHUNK = 250


@dataclass(frozen=True, kw_only=True)
class Pretext:
    """The share of held-out samples whose pretext question the method answers.

    The predictor, a method of the model, gives logits [B, K] for the one view; the answer is what
    the views recorded under ``answer``, a list of one [B] int64. It tells whether the task was
    learned, and not whether the features are of use: a task with a shortcut is solved best. The
    floor without a network always gives the first answer, which is chance where answers are drawn
    uniformly. Data that has no test split is asked about training images, and the metric says so.

    Args:
        views: the recipe's.
        answer: the key of the batch that holds the answer.
        rows: samples that are asked, spread evenly; all where there are fewer.
        seed: of the questions; another than that of any run.
        every: epochs between two calls during training, None for never.
    """

    name: ClassVar[str] = "pretext"
    needs: ClassVar[str] = "solve"
    protocol: ClassVar[str] = "pretext/accuracy-v1"
    views: Any
    answer: str
    rows: int = 2000
    seed: int = -5
    every: int | None = None

    def judge(self, predict: Callable[[Any], Tensor], data: DataSource) -> list[Measure]:
        """Ask the method."""
        place = device_of(predict)
        return self._judge(lambda view: predict(view.to(place)).argmax(1).cpu(), data)

    def plain(self, data: DataSource) -> list[Measure]:
        """Give the first answer to all questions."""
        return self._judge(lambda view: torch.zeros(len(view), dtype=torch.int64), data)

    def __call__(self, predict: Callable[[Any], Tensor], data: DataSource) -> dict[str, float]:
        """Judge, as named values."""
        return flatten(self.judge(predict, data), self.name)

    def _judge(self, guess: Callable[[Any], Tensor], data: DataSource) -> list[Measure]:
        views = self.views.fit(data.spec())
        source, metric = data.fit(views.spec), "accuracy"
        try:
            samples = source.split("test")
        except ValueError:
            samples, metric = source.split("train"), "accuracy on train"
        places = spread(len(samples), self.rows)
        hits = []
        with torch.no_grad():
            for start in range(0, len(places), CHUNK):
                raw = samples.__getitems__(places[start : start + CHUNK])
                batch = views(raw, SampleGenerator(self.seed, 0, raw["index"]))
                (view,), (answer,) = batch["views"], batch[self.answer]
                hits.append(guess(view) == answer)
        return [measure(metric, torch.cat(hits)[None], train=0)]
