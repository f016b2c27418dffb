"""k-nearest-neighbor classification by Euclidean distance, for maps of few dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from unlabeled.data.source import DataSource
from unlabeled.evaluators.evaluator import Measure, check_labels, embed_both, flatten, measure
from unlabeled.features import Features


@dataclass(frozen=True, kw_only=True)
class EuclideanKnn:
    """The class that most of the k nearest training samples have; of equals the first class.

    Unlike `Knn`, which compares directions, it suits features of two or three dimensions that are
    a map: there the directions of two clusters on one line are the same.

    Args:
        k: neighbors.
        every: epochs between two calls during training, None for never.

    Raises:
        ValueError: k below 1; at scoring, k above the number of training samples.
    """

    name: ClassVar[str] = "knn"
    needs: ClassVar[str] = "embed"
    protocol: ClassVar[str] = "knn/euclidean-v1"
    k: int = 5
    every: int | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k is {self.k}: give a count of neighbors from 1")

    def score(self, train: Features, test: Features) -> list[Measure]:
        """Return top1."""
        label, truth, classes = check_labels(train, test)
        if self.k > len(train):
            raise ValueError(f"k is {self.k} but train has {len(train)} samples: pass a smaller k")
        hits = []
        for part, true in zip(test.x.split(512), truth.split(512), strict=True):
            far = torch.cdist(part, train.x, compute_mode="donot_use_mm_for_euclid_dist")
            near = label[far.topk(self.k, largest=False).indices]
            votes = torch.nn.functional.one_hot(near, classes).sum(1)
            hits.append(votes.argmax(1) == true)
        found = torch.cat(hits)[None]
        return [measure("top1", found, train=len(train), details={"k": self.k})]

    def __call__(self, predict: Any, data: DataSource) -> dict[str, float]:
        """Embed "train" and "test" and return ``{"knn/top1": ...}``."""
        return flatten(self.score(*embed_both(predict, data)), self.name)
