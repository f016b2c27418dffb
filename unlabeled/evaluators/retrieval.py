"""Retrieval: whether what lies nearest is of the same class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.source import DataSource
from unlabeled.evaluators.evaluator import Measure, check_labels, embed_both, flatten, measure
from unlabeled.features import Features

if TYPE_CHECKING:
    from jaxtyping import Float, Int

CHUNK = 512


def ranked_hits(
    x: Float[Tensor, "N D"], label: Int[Tensor, " N"], rows: Int[Tensor, " Q"]
) -> Tensor:
    """[Q, N - 1] bool: of each query, whether the others, nearest by cosine first, share its class.

    Args:
        x: of unit length.
        label: of each.
        rows: which of them are queries.
    """
    alike = x[rows] @ x.T
    alike.scatter_(1, rows[:, None], -torch.inf)  # the query itself comes last
    order = alike.argsort(dim=1, descending=True, stable=True)[:, :-1]
    return label[order] == label[rows][:, None]


def average_precision(hits: Tensor) -> Float[Tensor, " Q"]:
    """[Q, N] bool, ranked -> mean over the relevant ones of the precision at each's rank."""
    rank = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    precision = hits.cumsum(1) / rank
    return (precision * hits).sum(1) / hits.sum(1).clamp_min(1)


def precision_at_r(hits: Tensor, *, average: bool) -> Float[Tensor, " Q"]:
    """Over the first R of the ranking, R the relevant ones in all: precision, or MAP@R.

    ``MAP@R = 1 / R sum_{i <= R} precision(i) [i is relevant]`` (Musgrave et al. 2020,
    arXiv:2003.08505, section 3.2).
    """
    rank = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    total = hits.sum(1, keepdim=True)
    kept = hits & (rank <= total)
    value = hits.cumsum(1) / rank * kept if average else kept
    return value.sum(1) / total[:, 0].clamp_min(1)


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Each test sample asks for the others of its class, by cosine.

    ``recall@k`` is the share of queries with one of the same class among the k nearest; ``map`` the
    mean average precision over the whole ranking, ``map_at_r`` over its first R. Queries that are
    alone in their class are left out. Train is not used; nothing is chosen.

    Args:
        ranks: k.
        every: epochs between two calls during training, None for never.
    """

    name: ClassVar[str] = "retrieval"
    needs: ClassVar[str] = "embed"
    protocol: ClassVar[str] = "retrieval/cosine-v1"
    ranks: tuple[int, ...] = (1, 5, 10)
    every: int | None = None

    def __post_init__(self) -> None:
        if not self.ranks or min(self.ranks) < 1:
            raise ValueError(f"ranks are {self.ranks}: give numbers of neighbors")

    def score(self, train: Features, test: Features) -> list[Measure]:
        """Rank test by each of its samples."""
        _, label, _ = check_labels(train, test)
        x = F.normalize(test.x.float(), dim=1)
        label = label.to(x.device)
        asked = (label.bincount()[label] > 1).nonzero().flatten()
        if not len(asked):
            raise ValueError("no two test samples are of one class: nothing can be retrieved")
        hits: dict[int, list[Tensor]] = {k: [] for k in self.ranks}
        precise: list[Tensor] = []
        at_r: list[Tensor] = []
        for rows in asked.split(CHUNK):
            found = ranked_hits(x, label, rows)
            for k in self.ranks:
                hits[k].append(found[:, :k].any(1))
            precise.append(average_precision(found))
            at_r.append(precision_at_r(found, average=True))
        measures = [
            measure(f"recall@{k}", torch.cat(parts)[None].cpu(), train=0)
            for k, parts in hits.items()
        ]
        for metric, parts in (("map", precise), ("map_at_r", at_r)):
            each = torch.cat(parts).double().cpu()
            value = 100 * math.fsum(each.tolist()) / len(each)
            measures.append(Measure(metric=metric, value=value, test=len(each)))
        return measures

    def __call__(self, predict: object, data: DataSource) -> dict[str, float]:
        """Embed both splits and score them."""
        return flatten(self.score(*embed_both(predict, data)), self.name)
