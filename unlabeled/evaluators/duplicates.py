"""Near-duplicates: samples that an encoder cannot tell apart, within a split and across two."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from unlabeled.data.source import DataSource
from unlabeled.encoders.encoder import Encoder
from unlabeled.evaluators.evaluator import Measure, flatten, measure
from unlabeled.features import Features, embed
from unlabeled.ops.knn import nearest

if TYPE_CHECKING:
    from jaxtyping import Float, Int

THRESHOLD = 0.98
NEIGHBORS = 20
SHOWN = 20
BLOCK = 256
ROUNDING = 1e-6
"""Of float32: by how much the cosine of copies may miss 1, and features may miss their mean."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of samples, the most alike first.

    Args:
        places: [P, 2] int64, the first before the second.
        cosine: [P].
        group: [N] int64: samples that chains of pairs link have one number, from 0; -1 for those
            in no pair.
    """

    places: Tensor
    cosine: Tensor
    group: Tensor

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return int(self.group.max()) + 1 if len(self.group) else 0

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
    """Return the pairs with a cosine of at least ``threshold``, of features less their mean.

    The mean is taken off since it moves all cosines alike: untrained networks give any two images
    nearly the same vector. What differs from the mean by rounding alone has no direction and no
    pair, so constant features have none. Each sample is compared with all others in float32
    (`ops.knn.nearest`) and its ``neighbors`` most alike are listed: of larger groups some pairs
    are left out, but the groups are those of all pairs.

    Args:
        x: features.
        threshold: cosine; 1 for copies, up to rounding.
        neighbors: listed pairs of a sample.

    Raises:
        ValueError: a threshold outside (0, 1], fewer neighbors than one.
    """
    _check(threshold)
    if neighbors < 1:
        raise ValueError(f"neighbors is {neighbors}: give 1 or more")
    count = len(x)
    if count < 2:
        none = torch.empty(0, 2, dtype=torch.int64, device=x.device)
        return Pairs(none, x.new_empty(0), none.new_full((count,), -1))
    centered = _centered(x, of=x)
    cosine, place = nearest(centered, centered, k=min(neighbors + 1, count))
    own = torch.arange(count, device=x.device)[:, None].expand_as(place)
    alike = cosine >= threshold - ROUNDING
    kept = alike & (place != own)
    first, second = own[kept], place[kept]
    key = torch.minimum(first, second) * count + torch.maximum(first, second)
    unique, inverse = key.unique(return_inverse=True)
    best = cosine.new_zeros(len(unique)).scatter_reduce_(0, inverse, cosine[kept], "amax")
    order = best.argsort(descending=True, stable=True)
    places = torch.stack([unique // count, unique % count], 1)[order]
    linked = _components(places, count)
    # a pair is listed by neither side only if both lists are full of others
    full = alike.all(1).nonzero().flatten()
    if len(full) and place.shape[1] < count:
        linked = _joined(linked, normalize(centered[full], dim=1), full, threshold)
    paired = linked.bincount()[linked] > 1
    group = torch.full_like(linked, -1)
    group[paired] = linked[paired].unique(return_inverse=True)[1]
    return Pairs(places, best[order].clamp(max=1), group)


def _components(pairs: Int[Tensor, "P 2"], count: int) -> Int[Tensor, " N"]:
    """[N]: the number of the connected component of each of ``count`` nodes."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second = pairs.cpu().numpy().T
    graph = coo_array((np.ones(len(first)), (first, second)), (count, count))
    found = connected_components(graph, directed=False)[1]
    return torch.from_numpy(found).long().to(pairs.device)


def _joined(linked: Tensor, unit: Tensor, rows: Tensor, threshold: float) -> Tensor:
    """Join components that pairs among ``rows``, of unit features ``unit``, link."""
    inside, of = linked[rows].unique(return_inverse=True)
    if len(inside) == 1:
        return linked
    bridges = []
    for part, mine in zip(unit.split(BLOCK), of.split(BLOCK), strict=True):
        links = (part @ unit.T >= threshold - ROUNDING).float()
        reached = links.new_zeros(len(part), len(inside)).index_add_(1, of, links)
        row, other = reached.nonzero().T
        bridges.append(torch.stack([mine[row], other], 1).unique(dim=0))
    joined = inside[_components(torch.cat(bridges), len(inside))]
    renumbered = linked.clone()
    places = torch.searchsorted(inside, linked).clamp_max(len(inside) - 1)
    moved = inside[places] == linked
    renumbered[moved] = joined[places[moved]]
    return renumbered


def leaked(
    test: Float[Tensor, "M d"], train: Float[Tensor, "N d"], *, threshold: float = THRESHOLD
) -> tuple[Int[Tensor, " M"], Float[Tensor, " M"]]:
    """The most alike training sample of each test sample, or -1; and its cosine.

    Of features less the mean of ``train``, so of a single training sample nothing can be said.

    Raises:
        ValueError: a threshold outside (0, 1], no training sample, widths that differ.
    """
    _check(threshold)
    if not len(test):
        none = torch.empty(0, dtype=torch.int64, device=test.device)
        return none, test.new_empty(0)
    cosine, place = nearest(_centered(test, of=train), _centered(train, of=train), k=1)
    cosine, place = cosine[:, 0].clamp(max=1), place[:, 0]
    return torch.where(cosine >= threshold - ROUNDING, place, -1), cosine


def _centered(x: Float[Tensor, "N d"], *, of: Float[Tensor, "M d"]) -> Float[Tensor, "N d"]:
    """Less the mean of ``of``; zero where nothing but rounding is left."""
    mean = of.mean(0, dtype=torch.float64)
    left = x - mean.to(x.dtype)
    return left * (left.norm(dim=1, keepdim=True) > ROUNDING * mean.norm())


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
                details={"pairs": pairs.names(train.path), "groups": pairs.groups},
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
        return flatten(self.judge(predict, data), self.name)

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
