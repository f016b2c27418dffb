"""Mining: which candidates of a query are the most similar ones.

For negatives these are the hardest. A selection has no gradient; the similarity of what it selects
may have one. Candidates that must not be taken (the query itself, its positive) get -inf first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


def hardest(similarity: Float[Tensor, "B N"], *, count: int) -> Int[Tensor, "B C"]:
    """Find the ``count`` most similar candidates of each query, the most similar first.

    Candidates at -inf come last: a row gets one only if it has fewer than ``count`` others.

    Returns:
        [B, count] int64, places in 0 .. N - 1.

    Raises:
        ValueError: count is outside 0 .. N.
    """
    candidates = similarity.shape[1]
    if not 0 <= count <= candidates:
        raise ValueError(
            f"count is {count}, there are {candidates} candidates: give 0 to {candidates}"
        )
    return similarity.detach().topk(count, dim=1).indices


def percentile_band(
    similarity: Float[Tensor, "B N"], *, low: float, high: float
) -> Bool[Tensor, "B N"]:
    """Mark the candidates of each query between two percentiles of hardness.

    A candidate with r harder ones among n is at percentile ``100 r / n``; those in [low, high)
    are marked, so that (0, 5) marks the hardest 5 % and (95, 100) the easiest. Bands that meet
    divide the candidates between them. Of equally similar candidates those that come first in
    the row count as harder. Candidates at -inf are not counted and never marked.

    Returns:
        [B, N] bool.

    Raises:
        ValueError: not 0 <= low <= high <= 100.
    """
    if not 0 <= low <= high <= 100:
        raise ValueError(f"the band is {low} to {high}: give 0 <= low <= high <= 100")
    similarity = similarity.detach()
    order = similarity.argsort(dim=1, descending=True, stable=True)
    harder = torch.empty_like(order)
    harder.scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
    counted = (similarity > -torch.inf).sum(1, keepdim=True)
    # not divided by the number, so that an edge is where it is meant to be; those at -inf have
    # all that are counted before them, and so lie outside of every band
    rank = 100.0 * harder.double()
    return (rank >= low * counted) & (rank < high * counted)
