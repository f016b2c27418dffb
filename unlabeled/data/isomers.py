"""Isomers: generated graphs of the same nodes, told apart by which kinds of nodes are linked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.graphs import GraphSource
from unlabeled.ops.graphs import Graphs

KINDS, COPIES, CLASSES = 8, 3, 6
"""Kinds of nodes, how many of each a graph has, and rules."""


@dataclass(frozen=True, kw_only=True)
class Isomers(GraphSource):
    """Graphs of 24 nodes, three of each of eight kinds, and ``edges`` edges; a class is a rule.

    A rule lets each kind prefer two others. An edge links a preferred pair with a probability of
    ``preference``, else any other pair. Size, number of edges and counts of kinds are those of
    every graph, so that they tell nothing: neither of the class nor of the single graph.

    Args:
        count: of graphs, in turns of the six rules.
        edges: of each graph.
        preference: share of the edges that follow the rule, on average.
    """

    count: int = 1200
    edges: int = 30
    preference: float = 0.7

    def __post_init__(self) -> None:
        pairs = KINDS * COPIES * (KINDS * COPIES - 1) // 2
        if self.count < CLASSES or not 0 < self.edges <= pairs or not 0 < self.preference < 1:
            raise ValueError(
                f"count is {self.count}, edges {self.edges}, preference {self.preference}: give "
                f"{CLASSES} or more, 1 to {pairs}, and a share between 0 and 1"
            )

    @property
    def name(self) -> str:
        """``isomers``."""
        return "isomers"

    @property
    def classes(self) -> tuple[str, ...]:
        """The six rules."""
        return tuple(f"rule {number}" for number in range(CLASSES))

    @property
    def graphs(self) -> tuple[Tensor, Tensor | None]:
        """All of them."""
        return _isomers(self.count, self.edges, self.preference)


def _rules(generator: torch.Generator) -> Tensor:
    """[CLASSES, KINDS, KINDS] bool: pairs of kinds that a rule prefers, a ring of all kinds."""
    rings = torch.stack([torch.randperm(KINDS, generator=generator) for _ in range(CLASSES)])
    rules = torch.zeros(CLASSES, KINDS, KINDS, dtype=torch.bool)
    rule = torch.arange(CLASSES)[:, None]
    rules[rule, rings, rings.roll(1, dims=1)] = True
    return rules | rules.mT


@lru_cache(maxsize=2)
def _isomers(count: int, edges: int, preference: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    kind = torch.arange(KINDS * COPIES) % KINDS
    nodes = len(kind)
    label = torch.arange(count) % CLASSES
    preferred = _rules(generator)[label][:, kind][:, :, kind]
    upper = torch.ones(nodes, nodes, dtype=torch.bool).triu(1)
    some = (preferred & upper).flatten(1).sum(1)[:, None, None]
    weight = torch.where(preferred, preference / some, (1 - preference) / (int(upper.sum()) - some))
    # drawing without replacement: the largest of log weights with Gumbel noise
    noise = -(-torch.rand(count, nodes, nodes, generator=generator).log()).log()
    drawn = (weight.log() + noise).masked_fill(~upper, -torch.inf).flatten(1).topk(edges, 1).indices
    half = torch.zeros(count, nodes * nodes).scatter_(1, drawn, 1.0).view(count, nodes, nodes)
    x = F.one_hot(kind, KINDS).float().expand(count, -1, -1)
    mask = torch.ones(count, nodes, dtype=torch.bool)
    return Graphs(x, mask, half + half.mT).pack(), label
