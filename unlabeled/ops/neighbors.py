"""The graph of nearest neighbors by Euclidean distance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


def nearest_others(x: Float[Tensor, "N d"], *, k: int, block: int = 1024) -> Int[Tensor, "N k"]:
    """Places of the k rows nearest to each row, itself left out, nearest first.

    By ``|x_i - x_j|^2 = |x_i|^2 + |x_j|^2 - 2 x_i.x_j`` in the precision of x, in blocks.

    Raises:
        ValueError: k outside 1 .. N - 1.
    """
    if not 1 <= k < len(x):
        raise ValueError(f"k is {k} with {len(x)} rows: give 1 .. {len(x) - 1}")
    x = x - x.mean(0)  # distances stay, products get smaller
    square = x.square().sum(1)
    found = []
    for start in range(0, len(x), block):
        part = x[start : start + block]
        # |x_i|^2 is the same for all j
        far = torch.addmm(square[None], part, x.T, alpha=-2)
        far.diagonal(start).fill_(torch.inf)
        found.append(far.topk(k, largest=False).indices)
    return torch.cat(found)


def related(index: Int[Tensor, " B"], neighbors: Int[Tensor, "B k"]) -> Bool[Tensor, "B B"]:
    """Whether two samples are neighbors: one is among the other's k, or they are the same.

    Args:
        index: places of the samples.
        neighbors: places of each sample's neighbors.
    """
    listed = (neighbors[:, :, None] == index).any(1)
    return listed | listed.T | (index[:, None] == index)


def distances(one: Float[Tensor, "*B D"], other: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
    """Euclidean distances ``|a - b|`` over the last dimension; the gradient at 0 is 0."""
    return torch.linalg.vector_norm(one - other, dim=-1)
