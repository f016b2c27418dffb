"""Small graphs as one tensor: features, whether there is a node, and the adjacency matrix.

A batch of graphs is [B, N, F + 1 + N]: padded nodes are rows of zeros. What is done to a batch of
tensors (moving, splitting, gathering) can so be done to graphs; the cost is N^2 a graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


class Graphs(NamedTuple):
    """A batch: node features [B, N, F], nodes [B, N] bool, symmetric adjacency [B, N, N]."""

    x: Tensor
    mask: Tensor
    adjacency: Tensor

    def pack(self) -> Float[Tensor, "B N width"]:
        """[B, N, F + 1 + N]."""
        return torch.cat([self.x, self.mask[..., None].to(self.x.dtype), self.adjacency], 2)


def unpack(packed: Float[Tensor, "B N width"]) -> Graphs:
    """[B, N, F + 1 + N] to its parts."""
    nodes = packed.shape[1]
    x, mask, adjacency = packed.split([packed.shape[2] - 1 - nodes, 1, nodes], 2)
    return Graphs(x, mask[..., 0] > 0.5, adjacency)


def widen(graphs: Graphs, *, nodes: int) -> Graphs:
    """Pad to ``nodes`` nodes."""
    more = nodes - graphs.x.shape[1]
    return Graphs(
        F.pad(graphs.x, (0, 0, 0, more)),
        F.pad(graphs.mask, (0, more)),
        F.pad(graphs.adjacency, (0, more, 0, more)),
    )


def one_of(choices: Tensor, draw: Tensor) -> Tensor:
    """[B, n] bool and [B, n] uniform -> [B, n] bool: one true entry at random, or none."""
    best = torch.where(choices, draw + 1, 0).argmax(1)
    return F.one_hot(best, choices.shape[1]).bool() & choices


def _pair(choices: Tensor, draw: Tensor) -> Tensor:
    """One of the pairs i < j in [B, N, N] at random, as a symmetric [B, N, N]."""
    upper = torch.ones(choices.shape[1:], dtype=torch.bool, device=choices.device).triu(1)
    one = one_of((choices & upper).flatten(1), draw.flatten(1)).view_as(choices)
    return one | one.mT


def delete_edge(graphs: Graphs, draw: Float[Tensor, "B N N"]) -> Graphs:
    """Remove one random edge, in both directions; a graph without edges stays."""
    chosen = _pair(graphs.adjacency > 0, draw)
    return graphs._replace(adjacency=graphs.adjacency.masked_fill(chosen, 0))


def delete_node(graphs: Graphs, draw: Float[Tensor, "B N"]) -> Graphs:
    """Remove one random node with its edges, where a node and an edge remain."""
    degree = graphs.adjacency.gt(0).sum(2)
    leaves = degree.sum(1, keepdim=True) - 2 * degree
    chosen = one_of(graphs.mask & (leaves > 0), draw)
    kept = ~(chosen[:, :, None] | chosen[:, None, :])
    return Graphs(
        graphs.x.masked_fill(chosen[..., None], 0),
        graphs.mask & ~chosen,
        graphs.adjacency * kept,
    )


def reachable(adjacency: Float[Tensor, "B N N"]) -> Tensor:
    """[B, N, N] bool: whether a path leads from i to j, of any length."""
    nodes = adjacency.shape[1]
    found = (adjacency > 0) | torch.eye(nodes, dtype=torch.bool, device=adjacency.device)
    for _ in range(max(1, (nodes - 1).bit_length())):
        found = (found.float() @ found.float()) > 0
    return found


def insert_edge(graphs: Graphs, draw: Float[Tensor, "B N N"]) -> Graphs:
    """Connect two random nodes that a path connects but no edge; where there are none, delete one.

    Args:
        graphs: what is altered.
        draw: uniform.
    """
    nodes = graphs.x.shape[1]
    apart = ~torch.eye(nodes, dtype=torch.bool, device=graphs.x.device)
    chosen = _pair(reachable(graphs.adjacency) & (graphs.adjacency <= 0) & apart, draw)
    inserted = torch.where(chosen, 1, graphs.adjacency)
    none = ~chosen.flatten(1).any(1)
    other = delete_edge(graphs, draw).adjacency
    return graphs._replace(adjacency=torch.where(none[:, None, None], other, inserted))


def insert_node(
    graphs: Graphs,
    draw: Float[Tensor, "B steps N"],
    size: Tensor,
    *,
    one_hot: bool,
) -> Graphs:
    """Put a node in the place of the edges inside a random connected set of nodes.

    The set grows from a random node by random neighbors; its edges go, and a new node is linked
    to all of it, with the mean of its features, or the most frequent one of one-hot features.

    Args:
        graphs: what is altered, with room for a node.
        draw: uniform, a row for each step of growth.
        size: [B], of the set, at most ``steps``.
        one_hot: whether features are one-hot.
    """
    inside = one_of(graphs.mask, draw[:, 0])
    for step in range(1, draw.shape[1]):
        near = (graphs.adjacency * inside[:, None, :]).sum(2) > 0
        grown = inside | one_of(near & ~inside, draw[:, step])
        inside = torch.where((step < size)[:, None], grown, inside)
    new = one_of(
        ~graphs.mask, torch.arange(graphs.x.shape[1], 0, -1).to(graphs.x).expand(graphs.mask.shape)
    )
    share = inside.to(graphs.x.dtype) / inside.sum(1, keepdim=True).clamp_min(1)
    feature = (share[:, None] @ graphs.x)[:, 0]
    if one_hot:
        feature = F.one_hot(feature.argmax(1), feature.shape[1]).to(feature.dtype)
    links = (new[:, :, None] & inside[:, None]) | (inside[:, :, None] & new[:, None])
    within = inside[:, :, None] & inside[:, None]
    return Graphs(
        torch.where(new[..., None], feature[:, None], graphs.x),
        graphs.mask | new,
        torch.where(links, 1, graphs.adjacency.masked_fill(within, 0)),
    )
