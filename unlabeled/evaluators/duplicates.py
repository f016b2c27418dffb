"""Near-duplicates: samples that an encoder cannot tell apart, within a split and across two."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from unlabeled.data.source import DataSource
from unlabeled.encoders.encoder import Encoder
from unlabeled.evaluators.evaluator import Measure, measure
from unlabeled.features import Features, embed
from unlabeled.ops.knn import search

if TYPE_CHECKING:
    from jaxtyping import Float, Int

THRESHOLD = 0.98
NEIGHBORS = 20
BLOCK = 1024
SHOWN = 20


@dataclass(frozen=True)
class Pairs:
    """Pairs of samples, the most alike first.

    Args:
        places: [P, 2] int64, the first before the second.
        cosine: [P].
        group: [N] int64: samples of one group are linked by pairs; -1 for those in no pair.
    """

    places: Tensor
    cosine: Tensor
    group: Tensor

    def names(self, path: list[str] | None, most: int = SHOWN) -> list[tuple[str, str, float]]:
        """The first pairs by path, or by place where there are no paths."""
        return [
            (
                path[first] if path is not None else str(first),
                path[second] if path is not None else str(second),
                round(cosine, 4),
            )
            for (first, second), cosine in zip(
                self.places[:most].tolist(), self.cosine[:most].tolist(), strict=True
            )
        ]


def near_duplicates(
    x: Float[Tensor, "N d"], *, threshold: float = THRESHOLD, neighbors: int = NEIGHBORS
) -> Pairs:
    """Return all pairs with a cosine of at least ``threshold``, of features less their mean.

    The mean is taken off since it moves all cosines alike: untrained networks give any two images
    nearly the same vector. Each sample is compared with all others, and linked to at most
    ``neighbors``: of larger groups some pairs are left out, but no member.

    Args:
        x: features.
        threshold: cosine.
        neighbors: links of a sample.

    Raises:
        ValueError: a threshold outside (0, 1].
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _check(threshold)
    count = len(x)
    if count < 2:
        return Pairs(torch.empty(0, 2).long(), torch.empty(0), torch.full((count,), -1))
    unit = normalize((x - x.mean(0)).float(), dim=1)
    parts = [
        _alike(unit, start, min(start + BLOCK, count), threshold=threshold, neighbors=neighbors)
        for start in range(0, count, BLOCK)
    ]
    first, second, cosine = (torch.cat(each) for each in zip(*parts, strict=True))
    key = torch.minimum(first, second) * count + torch.maximum(first, second)
    unique, inverse = key.unique(return_inverse=True)
    best = torch.zeros(len(unique)).scatter_reduce_(0, inverse, cosine, "amax")
    order = best.argsort(descending=True, stable=True)
    places = torch.stack([unique // count, unique % count], 1)[order]
    graph = coo_array((torch.ones(len(places)).numpy(), tuple(places.T.numpy())), (count, count))
    group = torch.from_numpy(connected_components(graph, directed=False)[1]).long()
    group[group.bincount()[group] == 1] = -1
    return Pairs(places, best[order].clamp(max=1), group)


def _alike(
    unit: Tensor, start: int, stop: int, *, threshold: float, neighbors: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of rows ``start .. stop`` with later ones; of many the ``neighbors`` most alike."""
    found = unit[start:stop] @ unit[start:].T
    later = torch.arange(found.shape[1]) > torch.arange(stop - start)[:, None]
    kept = (found >= threshold) & later
    crowded = (kept.sum(1) > neighbors).nonzero().flatten()
    if len(crowded):  # sorting is what costs, so only rows with many are sorted
        best = found[crowded].masked_fill(~kept[crowded], -torch.inf).topk(neighbors, dim=1).indices
        kept[crowded] = torch.zeros_like(kept[crowded]).scatter_(1, best, True)
    row, column = kept.nonzero(as_tuple=True)
    return row + start, column + start, found[row, column]


def leaked(
    test: Float[Tensor, "M d"], train: Float[Tensor, "N d"], *, threshold: float = THRESHOLD
) -> tuple[Int[Tensor, " M"], Float[Tensor, " M"]]:
    """The most alike training sample of each test sample, or -1; and its cosine."""
    _check(threshold)
    mean = train.mean(0)
    cosine, place = search(test - mean, train - mean, k=1)
    return torch.where(cosine[:, 0] >= threshold, place[:, 0], -1), cosine[:, 0]


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """How many samples have a near-duplicate, in train and across train and test.

    ``train`` is the share of training samples in a group of two or more, ``test in train`` that of
    test samples with a near-duplicate among the training samples (a leak, which flatters kNN). The
    details name the most alike pairs. Needs no labels; what is alike is the encoder's view of it,
    so look at the pairs.

    Args:
        threshold: cosine of features less their mean.
        every: epochs between two calls during training, None for never.

    Raises:
        ValueError: a threshold outside (0, 1].
    """

    name: ClassVar[str] = "duplicates"
    needs: ClassVar[str] = "encoder"
    threshold: float = THRESHOLD
    every: int | None = None

    def __post_init__(self) -> None:
        _check(self.threshold)

    @property
    def protocol(self) -> str:
        """``duplicates/cosine-0.98-v1``."""
        return f"duplicates/cosine-{self.threshold:g}-v1"

    def judge(self, predict: Encoder, data: DataSource) -> list[Measure]:
        """Embed the splits there are and compare all samples."""
        return self._judge(predict, data, predict.spec)

    def plain(self, data: DataSource) -> list[Measure]:
        """The same of the raw input."""
        return self._judge(data.raw, data, data.spec())

    def score(self, train: Features, test: Features | None) -> list[Measure]:
        """Compare the training samples with each other, and test with train."""
        pairs = near_duplicates(train.x, threshold=self.threshold)
        found = [
            measure(
                "train",
                (pairs.group >= 0)[None],
                train=len(train),
                details={"pairs": pairs.names(train.path), "groups": len(pairs.group.unique()) - 1},
            )
        ]
        if test is not None:
            place, cosine = leaked(test.x, train.x, threshold=self.threshold)
            order = cosine.argsort(descending=True, stable=True)[:SHOWN]
            rows = [int(row) for row in order if place[row] >= 0]
            shown = [
                (_name(test, row), _name(train, int(place[row])), round(float(cosine[row]), 4))
                for row in rows
            ]
            found.append(
                measure(
                    "test in train",
                    (place >= 0)[None],
                    train=len(train),
                    details={"pairs": shown},
                )
            )
        return [replace(each, higher_is_better=False) for each in found]

    def __call__(self, predict: Any, data: DataSource) -> dict[str, float]:
        """Judge, as named values."""
        return {f"{self.name}/{each.metric}": each.value for each in self.judge(predict, data)}

    def _judge(self, look: Any, data: DataSource, spec: Any) -> list[Measure]:
        train = embed(look, data, split="train", spec=spec)
        try:
            data.split("test")
        except ValueError:  # data without labels has no test split
            return self.score(train, None)
        return self.score(train, embed(look, data, split="test", spec=spec))


def _name(features: Features, row: int) -> str:
    return str(row) if features.path is None else features.path[row]


def _check(threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}: give a cosine in (0, 1]")
