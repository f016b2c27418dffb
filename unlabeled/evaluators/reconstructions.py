"""Reconstructions: what is left of an image on its way through the latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unlabeled.data.source import DataSource
from unlabeled.evaluators.evaluator import Figure, Measure, device_of, measure
from unlabeled.evaluators.fid import at_side, judge_network, pictures, sheet


@dataclass(frozen=True, kw_only=True)
class Reconstructions:
    """How near reconstructions of test images are, and how often they keep the class.

    ``distance`` is the mean distance from an image to its reconstruction, in the features of
    `judge_network`, in percent of the mean distance to another image's: 100 where the latents
    forget which image it was. ``same_class`` is the share whose reconstruction that network takes
    for the image's own class. Nothing is the floor without a network.

    Args:
        images: of the test split that are judged.
        side: at which they are compared; None is the data's own.
    """

    images: int = 2000
    side: int | None = None
    name: str = "reconstructions"
    needs: str = "reconstruct"
    every: int | None = None
    protocol: str = "reconstructions/small-classifier-v1"

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Reconstruct the first images of the test split."""
        pixels, label = pictures(data, "test", self.images, data.spec().size)
        side = self.side or data.spec().size
        network = judge_network(data, side)
        real = network(pictures(data, "test", self.images, side)[0])
        made = network(at_side(_through(predict, pixels), side))
        own = (real - made).norm(dim=1)
        # another image's: the next one's but a few, since neighbors may be alike
        other = (real - made.roll(len(made) // 3 + 1, 0)).norm(dim=1)
        measures = [
            Measure(
                metric="distance",
                value=float(100 * own.mean() / other.mean().clamp_min(1e-12)),
                test=len(own),
                higher_is_better=False,
                details={"features": network.kind},
            )
        ]
        if label is not None and network.head is not None:
            hits = network.head(made).argmax(1) == label
            measures.append(measure("same_class", hits[None], train=0))
        return measures

    def plain(self, data: DataSource) -> list[Measure]:
        """Nothing."""
        return []

    def figures(self, predict: Any, data: DataSource) -> list[Figure]:
        """Rows of images, each with the row of its reconstructions below."""
        pixels, _ = pictures(data, "test", 48, data.spec().size)
        found = _through(predict, pixels)
        real, _ = pictures(data, "test", 48, found.shape[-1])
        rows = [part for pair in zip(real.split(16), found.split(16), strict=True) for part in pair]
        return [Figure("Images, and below each what became of it", sheet(torch.cat(rows)))]


def _through(predict: Any, pixels: Tensor) -> Tensor:
    place = device_of(predict)
    parts = [predict(part.to(place)).float().cpu() for part in pixels.split(500)]
    return torch.cat(parts).clamp(0, 1)
