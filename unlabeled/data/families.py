"""Families: generated graphs of six kinds, whose sizes and densities tell little."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from unlabeled.data.graphs import GraphSource
from unlabeled.extras import require
from unlabeled.ops.graphs import Graphs

KINDS = ("random", "preferential", "ring of cliques", "grid", "blocks", "tree")
DEGREES = 8


@dataclass(frozen=True, kw_only=True)
class Families(GraphSource):
    """Random, preferential-attachment, clique-ring, grid, block-model graphs and trees.

    20 to 40 nodes, a tenth of whose edges are moved elsewhere; features are degrees up to 7,
    one-hot. Made by networkx from a fixed seed.

    Args:
        count: of graphs, in turns of the six kinds.
    """

    count: int = 600

    @property
    def name(self) -> str:
        """``families``."""
        return "families"

    @property
    def classes(self) -> tuple[str, ...]:
        """The six kinds."""
        return KINDS

    @property
    def graphs(self) -> tuple[Tensor, Tensor | None]:
        """All of them."""
        return _families(self.count)


@lru_cache(maxsize=2)
def _families(count: int) -> tuple[Tensor, Tensor]:
    networkx = require("networkx", extra="graph")
    generator = torch.Generator().manual_seed(0)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    adjacency = torch.zeros(count, 40, 40)
    mask = torch.zeros(count, 40, dtype=torch.bool)
    for row in range(count):
        kind, nodes, seed = row % len(KINDS), draw(20, 40), row
        if kind == 0:
            graph = networkx.gnm_random_graph(nodes, 2 * nodes - 4, seed=seed)
        elif kind == 1:
            graph = networkx.barabasi_albert_graph(nodes, 2, seed=seed)
        elif kind == 2:
            graph = networkx.ring_of_cliques(nodes // 5, 5)
        elif kind == 3:
            graph = networkx.grid_2d_graph(draw(4, 5), nodes // 5)
        elif kind == 4:
            halves = [nodes // 2, nodes - nodes // 2]
            inside, across = 6 / nodes, 1 / nodes
            chances = [[inside, across], [across, inside]]
            graph = networkx.stochastic_block_model(halves, chances, seed=seed)
        else:
            graph = networkx.random_labeled_tree(nodes, seed=seed)
        own = torch.tensor(networkx.to_numpy_array(graph))
        adjacency[row, : len(own), : len(own)] = (own > 0).float()
        mask[row, : len(own)] = True
    moved = _move_edges(adjacency, mask, generator)
    degree = moved.sum(2).long().clamp_max(DEGREES - 1)
    x = torch.nn.functional.one_hot(degree, DEGREES).float() * mask[..., None]
    return Graphs(x, mask, moved).pack(), torch.arange(count) % len(KINDS)


def _move_edges(adjacency: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
    """A tenth of the edges go, and as many random ones come in their place."""
    draw = torch.rand(adjacency.shape, generator=generator).triu(1)
    draw = draw + draw.mT
    pairs = mask[:, :, None] & mask[:, None] & ~torch.eye(40, dtype=torch.bool)
    edges = adjacency > 0
    kept = edges & (draw > 0.1)
    gone = (edges & ~kept).flatten(1).sum(1)
    free = (pairs & ~edges).flatten(1).sum(1)
    chance = (gone / free.clamp_min(1))[:, None, None]
    return (kept | (pairs & ~edges & (draw < chance))).float()
