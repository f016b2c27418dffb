"""Weighted k-nearest-neighbor classification of frozen features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from unlabeled.data.order import spread
from unlabeled.data.source import DataSource
from unlabeled.evaluators.evaluator import Measure, check_labels, embed_both, flatten, measure
from unlabeled.features import Features, embed
from unlabeled.ops.knn import nearest, search

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


def vote(
    similarity: Float[Tensor, "M k"],
    label: Int[Tensor, "M k"],
    *,
    classes: int,
    temperature: float,
) -> Float[Tensor, "M C"]:
    """Sum ``exp(s / T)`` of the neighbors of each class; of equal sums argmax takes the first.

    Every row is scaled by ``exp(-max s / T)``, which leaves the order and cannot overflow.
    """
    weight = ((similarity - similarity.amax(1, keepdim=True)) / temperature).exp()
    empty = torch.zeros(len(label), classes, device=label.device)
    return empty.scatter_add_(1, label, weight)


@dataclass(frozen=True, kw_only=True)
class Knn:
    """Instance discrimination's kNN: cosine, k neighbors, each votes with weight ``exp(s / T)``.

    Wu et al. 2018 (arXiv:1805.01978), section 3.4: the class with ``max_c sum_{i in N_k}
    exp(s_i / T) [y_i = c]``, T = 0.07. The paper has k = 200, for ImageNet; 20 is what most
    report since DINO.

    Args:
        k: neighbors, or several counts at once.
        temperature: T.
        every: epochs between two calls during training, None for never.

    Raises:
        ValueError: no k, a k below 1, or a temperature that is not positive; at scoring, a k
            above the number of training samples.
    """

    name: ClassVar[str] = "knn"
    needs: ClassVar[str] = "embed"
    protocol: ClassVar[str] = "knn/instdisc-v1"
    k: int | tuple[int, ...] = 20
    temperature: float = 0.07
    every: int | None = None

    def __post_init__(self) -> None:
        if not self.ks or min(self.ks) < 1:
            raise ValueError(f"k is {self.k}: give counts of neighbors from 1")
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}: give a positive number")

    @property
    def ks(self) -> tuple[int, ...]:
        """All counts of neighbors."""
        return self.k if isinstance(self.k, tuple) else (self.k,)

    def score(self, train: Features, test: Features) -> list[Measure]:
        """Return top1 (top1@k for several k), all from one search."""
        label, truth, classes = check_labels(train, test)
        if max(self.ks) > len(train):
            raise ValueError(
                f"k is {max(self.ks)} but train has {len(train)} samples: pass a smaller k"
            )
        similarity, place = search(test.x, train.x, k=max(self.ks))
        measures = []
        for k in self.ks:
            votes = vote(
                similarity[:, :k],
                label[place[:, :k]],
                classes=classes,
                temperature=self.temperature,
            )
            measures.append(
                measure(
                    "top1" if len(self.ks) == 1 else f"top1@{k}",
                    (votes.argmax(1) == truth)[None],
                    train=len(train),
                    details={"k": k, "temperature": self.temperature},
                )
            )
        return measures

    def __call__(self, predict: Any, data: DataSource) -> dict[str, float]:
        """Embed both splits and score them."""
        return flatten(self.score(*embed_both(predict, data)), self.name)


@dataclass(frozen=True, kw_only=True)
class KnnWithin:
    """Leave-one-out kNN inside a part of the training data: a monitor that never reads test.

    Args:
        k: neighbors.
        temperature: T.
        rows: samples, spread evenly over the training split.
        every: epochs between two calls during training, None for never.
    """

    name: ClassVar[str] = "knn_within"
    needs: ClassVar[str] = "embed"
    protocol: ClassVar[str] = "knn/leave-one-out-v1"
    k: int = 20
    temperature: float = 0.07
    rows: int = 5000
    every: int | None = 1

    def score(self, features: Features) -> Measure:
        """Classify each of the samples by its nearest others."""
        places = torch.tensor(spread(len(features), self.rows))
        if features.label is None:
            raise ValueError("the data has no labels: kNN needs some")
        part = Features(features.x[places], features.label[places])
        label, _, classes = check_labels(part, part)
        if self.k >= len(part):
            raise ValueError(f"k is {self.k} but there are {len(part)} samples: pass a smaller k")
        similarity, place = nearest(part.x, part.x, k=self.k + 1)
        own = torch.arange(len(part))[:, None] == place
        # among more than k equal samples the own one may be absent: then the last one goes
        own[:, -1] |= ~own.any(1)
        others = (~own).nonzero()[:, 1].view(len(part), self.k)
        similarity, place = similarity.gather(1, others), place.gather(1, others)
        votes = vote(similarity, label[place], classes=classes, temperature=self.temperature)
        details = {"k": self.k, "temperature": self.temperature}
        return measure("top1", (votes.argmax(1) == label)[None], train=len(part), details=details)

    def __call__(self, predict: Any, data: DataSource) -> dict[str, float]:
        """Embed the training split and score a part of it."""
        return flatten([self.score(embed(predict, data, split="train"))], self.name)
