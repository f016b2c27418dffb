"""AlteredGraphs: two views of each graph, each altered once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unlabeled.data.graphs import GraphSpec
from unlabeled.method import Batch
from unlabeled.ops.graphs import (
    Graphs,
    delete_edge,
    delete_node,
    insert_edge,
    insert_node,
    unpack,
    widen,
)
from unlabeled.views.generator import SampleGenerator


@dataclass(frozen=True, kw_only=True)
class AlteredGraphs:
    """Two views, each by alterations of four kinds, equally likely (Graph CSSL, section 3.1).

    An edge is deleted or inserted, or a node is deleted or inserted. The set of nodes that an
    inserted node is linked to has ``smallest`` to ``largest`` nodes.

    Args:
        steps: alterations of each view, one after the other.
        smallest: of the set.
        largest: of the set.
        plain: also give the graphs as they are, as a third view.
        spec: what the encoder gets; set by `fit`.
    """

    steps: int = 1
    smallest: int = 3
    largest: int = 10
    plain: bool = False
    spec: GraphSpec | None = None

    def __post_init__(self) -> None:
        if self.steps < 1 or not 1 <= self.smallest <= self.largest:
            raise ValueError(
                f"steps is {self.steps}, smallest {self.smallest}, largest {self.largest}: give 1 "
                "or more, the last two in order"
            )

    def fit(self, spec: GraphSpec) -> AlteredGraphs:
        """Return a copy with the facts of the data."""
        return replace(self, spec=spec)

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """Return a new batch with two views [B, N + steps, ...], or three."""
        if self.spec is None:
            raise ValueError("views have no spec: call fit(data.spec()) first")
        (packed,) = batch["views"]
        graphs = unpack(packed)
        graphs = widen(graphs, nodes=graphs.x.shape[1] + self.steps)
        views = []
        for _ in range(2):
            altered = graphs
            for _ in range(self.steps):
                altered = self._altered(altered, generator)
            views.append(altered.pack())
        result: Batch = {**batch, "views": [*views, graphs.pack()] if self.plain else views}
        return result

    def _altered(self, graphs: Graphs, generator: SampleGenerator) -> Graphs:
        assert self.spec is not None
        nodes = graphs.x.shape[1]
        kind = generator.integers(high=4)
        pairs, single = generator.uniform(nodes, nodes), generator.uniform(nodes)
        growth = generator.uniform(self.largest, nodes)
        size = self.smallest + generator.integers(high=self.largest - self.smallest + 1)
        made = (
            delete_edge(graphs, pairs),
            delete_node(graphs, single),
            insert_edge(graphs, pairs),
            insert_node(graphs, growth, size, one_hot=self.spec.one_hot),
        )
        return Graphs(*(_choose(parts, kind) for parts in zip(*made, strict=True)))


def _choose(parts: tuple[Tensor, ...], kind: Tensor) -> Tensor:
    """Of [B, ...] results, sample by sample the one of its kind."""
    stacked = torch.stack(parts)
    return stacked[kind, torch.arange(len(kind), device=kind.device)]
