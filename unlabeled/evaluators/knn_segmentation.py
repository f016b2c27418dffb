"""KnnSegmentation: classes of pixels by the nearest patches of training images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.source import DataSource
from unlabeled.evaluators.evaluator import Measure, flatten
from unlabeled.evaluators.segmentation import (
    annotated,
    enlarged,
    maps_of,
    mean_iou_measure,
    patches,
)
from unlabeled.ops.knn import search


@dataclass(frozen=True, kw_only=True)
class KnnSegmentation:
    """Mean intersection over union of a vote of nearest patches; nothing is trained.

    Each place of a training image's map keeps the shares of the classes of its pixels. A test
    place takes the mean of those of its k nearest by cosine, weighted by ``exp(cos / t)``; the
    shares are enlarged bilinearly, and a pixel is of the largest (retrieval as in Hummingbird,
    arXiv:2306.01667, with hard neighbors). The floor without a network is patches of pixels.

    Args:
        images: of train whose places are kept; test is judged whole.
        places: kept at most, a random part.
        k: neighbors.
        temperature: t.
        seed: of that part.
        every: epochs between two calls during training, None for never.

    Raises:
        ValueError: a count or temperature that is not positive; at judging, data without classes
            of pixels.
    """

    name: ClassVar[str] = "knn_segmentation"
    needs: ClassVar[str] = "maps"
    protocol: ClassVar[str] = "knn_segmentation/vote-v1"
    images: int = 1000
    places: int = 50_000
    k: int = 20
    temperature: float = 0.07
    seed: int = 0
    every: int | None = None

    def __post_init__(self) -> None:
        if min(self.images, self.places, self.k) < 1 or not self.temperature > 0:
            raise ValueError(
                f"images {self.images}, places {self.places}, k {self.k}, temperature "
                f"{self.temperature}: give positive values"
            )

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Vote on each place of "test"."""
        source = annotated(data)
        count, classes = min(self.images, source.size("train")), len(source.things) + 1
        bank = maps_of(predict, source, "train", most=count)
        target = source.annotations("train").maps[:count].long()
        shares = F.adaptive_avg_pool2d(
            F.one_hot(target, classes).movedim(3, 1).float(), (bank.shape[2], bank.shape[3])
        )
        rows, shares = bank.movedim(1, 3).flatten(0, 2), shares.movedim(1, 3).flatten(0, 2)
        generator = torch.Generator().manual_seed(self.seed)
        kept = torch.randperm(len(rows), generator=generator)[: self.places]
        truth = source.annotations("test")
        test = maps_of(predict, source, "test", most=len(truth.maps))
        found = self.vote(test.movedim(1, 3).flatten(0, 2), rows[kept], shares[kept])
        grid = found.view(len(test), *test.shape[2:], classes).movedim(3, 1)
        guess = enlarged(grid, truth.maps.shape[1:]).argmax(1).byte()
        return [mean_iou_measure(guess, truth.maps, train=count)]

    def plain(self, data: DataSource) -> list[Measure]:
        """The same vote on patches of pixels."""
        return self.judge(patches, data)

    def vote(self, queries: Tensor, bank: Tensor, shares: Tensor) -> Tensor:
        """[M, classes]: the weighted mean of the neighbors' shares."""
        cosine, place = search(queries, bank, k=min(self.k, len(bank)))
        weight = (cosine / self.temperature).softmax(1)
        return torch.cat(
            [
                (near[..., None] * shares[rows]).sum(1)
                for near, rows in zip(weight.split(4096), place.split(4096), strict=True)
            ]
        )

    def __call__(self, predict: Any, data: DataSource) -> dict[str, float]:
        """Judge, as named values."""
        return flatten(self.judge(predict, data), self.name)
