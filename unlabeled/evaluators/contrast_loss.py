"""ContrastLoss: InfoNCE of frozen features under fixed views, a score without labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from unlabeled.data.order import spread
from unlabeled.data.source import DataSource, ImageSpec
from unlabeled.evaluators.alignment import VIEWS
from unlabeled.evaluators.evaluator import Measure, device_of, flatten
from unlabeled.losses.contrastive import nt_xent
from unlabeled.views.augment import Augment
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import TwoViews


@dataclass(frozen=True, kw_only=True)
class ContrastLoss:
    """NT-Xent in nats between two views of training images, in batches, on the encoder's features.

    The loss that contrastive methods lower, measured alike for all encoders: the same views,
    temperature and number of negatives, and no head. 2009.07724 holds it against accuracy.

    Args:
        rows: images, spread evenly; a multiple of ``batch`` of them counts.
        batch: images that are contrasted with each other.
        temperature: of the softmax.
        augment: of the views.
        seed: of the views.
        every: epochs between two calls during training, None for never.
    """

    name: ClassVar[str] = "contrast_loss"
    needs: ClassVar[str] = "encoder"
    protocol: ClassVar[str] = "contrast_loss/nt-xent-v1"
    rows: int = 2048
    batch: int = 256
    temperature: float = 0.2
    augment: Augment = VIEWS
    seed: int = -8
    every: int | None = None

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Contrast in eval mode."""
        place = device_of(predict)
        return self._judge(lambda view: predict(view.to(place)).float(), data, predict.spec)

    def plain(self, data: DataSource) -> list[Measure]:
        """The same on the views' pixels."""
        return self._judge(data.raw, data, data.spec())

    def __call__(self, predict: Any, data: DataSource) -> dict[str, float]:
        """Judge, as named values."""
        return flatten(self.judge(predict, data), self.name)

    @torch.no_grad()
    def _judge(
        self, look: Callable[[Tensor], Tensor], data: DataSource, spec: Any
    ) -> list[Measure]:
        if not isinstance(spec, ImageSpec):
            raise ValueError(f"{data.name} is no images: {self.name} draws views of images")
        views = TwoViews(self.augment).fit(spec)
        samples = data.fit(spec).split("train")
        places = spread(len(samples), self.rows)
        size = min(self.batch, len(places))
        losses = []
        for start in range(0, len(places) - size + 1, size):
            raw = data.collate(samples.__getitems__(places[start : start + size]))
            one, other = views(raw, SampleGenerator(self.seed, 0, raw["index"]))["views"]
            losses.append(float(nt_xent(look(one), look(other), temperature=self.temperature)))
        return [
            Measure(
                metric="loss",
                value=sum(losses) / len(losses),
                test=size * len(losses),
                unit="nats",
                higher_is_better=False,
            )
        ]
