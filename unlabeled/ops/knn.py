"""Nearest neighbors by cosine similarity, in blocks."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

SPARE = 32


def nearest(
    queries: Float[Tensor, "M d"], bank: Float[Tensor, "N d"], *, k: int, block: int = 256
) -> tuple[Float[Tensor, "M k"], Int[Tensor, "M k"]]:
    """Find the k rows of ``bank`` with the largest cosine to each query, best first.

    ``similarity[m, j] = q_m . b_n / (|q_m| |b_n|)`` with ``n = place[m, j]``, in float32. Of rows
    that are equally similar, those that come first in the bank are taken, and come first.

    Args:
        queries: [M, d].
        bank: [N, d].
        k: how many, at most N.
        block: queries that are compared at once; block x N floats are held.

    Returns:
        Similarities [M, k] in [-1, 1] and places in the bank [M, k].

    Raises:
        ValueError: k outside 1 .. N, or widths that differ.
    """
    _check(queries, bank, k=k)
    bank = normalize(bank.float(), dim=1)
    similarity, place = [], []
    buffer = torch.empty(block, len(bank), device=bank.device)
    for part in queries.split(block):
        scores = torch.mm(normalize(part.float(), dim=1), bank.T, out=buffer[: len(part)])
        values, rows = _largest(scores, k)
        similarity.append(values)
        place.append(rows)
    return torch.cat(similarity), torch.cat(place)


def nearest_by_candidates(
    queries: Float[Tensor, "M d"], bank: Float[Tensor, "N d"], *, k: int, block: int = 256
) -> tuple[Float[Tensor, "M k"], Int[Tensor, "M k"]]:
    """Do what `nearest` does, about twice as fast where `bfloat16_is_fast`.

    The comparison with the whole bank, in bfloat16, only picks 2 k + 32 candidates a query, which
    float32 then ranks: the similarities are those of float32. A neighbor is missed only if more
    than k + 32 rows of the bank lie within the rounding (below 2^-7 times the distance of the
    bank's rows from their mean) of the k-th. The mean of the bank is taken off for the search: it
    moves all scores of a query alike, and would cost the most digits.
    """
    _check(queries, bank, k=k)
    bank = normalize(bank.float(), dim=1)
    narrow = (bank - bank.mean(0)).bfloat16()
    count = min(len(bank), 2 * k + SPARE)
    similarity, place = [], []
    buffer = torch.empty(block, len(bank), dtype=torch.bfloat16, device=bank.device)
    for part in queries.split(block):
        query = normalize(part.float(), dim=1)
        scores = torch.mm(query.bfloat16(), narrow.T, out=buffer[: len(part)])
        rows = scores.topk(count, dim=1, sorted=False).indices.sort(1).values
        exact = torch.bmm(bank[rows], query[:, :, None]).squeeze(2)  # [block, count]
        values, order = exact.sort(dim=1, descending=True, stable=True)
        similarity.append(values[:, :k])
        place.append(rows.gather(1, order[:, :k]))
    return torch.cat(similarity), torch.cat(place)


def bfloat16_is_fast(device: torch.device) -> bool:
    """Say whether matrix products in bfloat16 are faster than in float32 on this device."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and not {"avx512_bf16", "amx_bf16"}.isdisjoint(_processor_flags())


@lru_cache(maxsize=1)
def _processor_flags() -> frozenset[str]:
    source = Path("/proc/cpuinfo")
    return frozenset(source.read_text().split()) if source.is_file() else frozenset()


def _check(queries: Tensor, bank: Tensor, *, k: int) -> None:
    if queries.ndim != 2 or bank.ndim != 2 or queries.shape[1] != bank.shape[1]:
        raise ValueError(
            f"queries are {tuple(queries.shape)}, the bank is {tuple(bank.shape)}: "
            "give [M, d] and [N, d]"
        )
    if not 1 <= k <= len(bank):
        raise ValueError(f"k is {k}, the bank has {len(bank)} rows: use k from 1 to {len(bank)}")


def _largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Top k a row, [B, N] -> [B, k]; of equal scores the first places."""
    values, rows = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    if values.shape[1] > k:
        # topk leaves open which of the scores that equal the last one it takes
        tied = (values[:, k - 1] == values[:, k]).nonzero().flatten()
        values, rows = values[:, :k], rows[:, :k].clone()
        if len(tied):
            again, last = scores[tied], values[tied, k - 1 : k]
            above, equal = again > last, again == last
            room = k - above.sum(1, keepdim=True)
            taken = above | (equal & (equal.cumsum(1) <= room))
            rows[tied] = taken.nonzero()[:, 1].view(len(tied), k)
    rows = rows.sort(1).values
    values, order = scores.gather(1, rows).sort(dim=1, descending=True, stable=True)
    return values, rows.gather(1, order)
