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
CHUNK = 2**16
"""Rows of the bank that are compared at once: what bounds the memory."""
TILE = 32


def search(
    queries: Float[Tensor, "M d"], bank: Float[Tensor, "N d"], *, k: int
) -> tuple[Float[Tensor, "M k"], Int[Tensor, "M k"]]:
    """Do what `nearest` does, in the way that is fastest on the bank's device."""
    find = nearest_by_candidates if bfloat16_is_fast(bank.device) else nearest
    return find(queries, bank, k=k)


def nearest(
    queries: Float[Tensor, "M d"], bank: Float[Tensor, "N d"], *, k: int, block: int = 512
) -> tuple[Float[Tensor, "M k"], Int[Tensor, "M k"]]:
    """Find the k rows of ``bank`` with the largest cosine to each query, best first.

    ``similarity[m, j] = q_m . b_n / (|q_m| |b_n|)`` with ``n = place[m, j]``, in float32. Of rows
    that are equally similar, those that come first in the bank are taken, and come first.

    Args:
        queries: [M, d].
        bank: [N, d].
        k: how many, at most N.
        block: queries that are compared at once; block x `CHUNK` floats are held at most.

    Returns:
        Similarities [M, k] in [-1, 1] and places in the bank [M, k].

    Raises:
        ValueError: k outside 1 .. N, or widths that differ.
    """
    _check(queries, bank, k=k)
    bank = normalize(bank.float(), dim=1)
    buffer = torch.empty(min(block, len(queries)) * min(CHUNK, len(bank)), device=bank.device)
    parts = [
        _nearest_of(normalize(part.float(), dim=1), bank, k, buffer)
        for part in queries.split(block)
    ]
    return torch.cat([values for values, _ in parts]), torch.cat([rows for _, rows in parts])


def _nearest_of(query: Tensor, bank: Tensor, k: int, buffer: Tensor) -> tuple[Tensor, Tensor]:
    """The k nearest of one block of unit queries, over the bank's chunks one after the other."""
    best = query.new_empty(len(query), 0)
    place = torch.empty(len(query), 0, dtype=torch.int64, device=query.device)
    for start in range(0, len(bank), CHUNK):
        chunk = bank[start : start + CHUNK]
        scores = buffer[: len(query) * len(chunk)].view(len(query), len(chunk))
        torch.mm(query, chunk.T, out=scores)
        values, rows = _largest(scores, min(k, len(chunk)))
        if start == 0:
            best, place = values, rows
            continue
        # of equal scores those of the chunks before come first, as they stand first
        best = torch.cat([best, values], 1)
        place = torch.cat([place, rows + start], 1)
        best, order = best.sort(dim=1, descending=True, stable=True)
        best, place = best[:, :k], place.gather(1, order[:, :k])
    return best, place


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
    size = min(block, len(queries)) * min(CHUNK, len(bank))
    buffer = torch.empty(size, dtype=torch.bfloat16, device=bank.device)
    for part in queries.split(block):
        query = normalize(part.float(), dim=1)
        rows = _candidates_of(query.bfloat16(), narrow, count, buffer).sort(1).values
        exact = torch.bmm(bank[rows], query[:, :, None]).squeeze(2)  # [block, count]
        values, order = exact.sort(dim=1, descending=True, stable=True)
        similarity.append(values[:, :k])
        place.append(rows.gather(1, order[:, :k]))
    return torch.cat(similarity), torch.cat(place)


def _candidates_of(query: Tensor, narrow: Tensor, count: int, buffer: Tensor) -> Tensor:
    """[B, count]: places of the best scores in bfloat16, in any order."""
    best: list[Tensor] = []
    place: list[Tensor] = []
    for start in range(0, len(narrow), CHUNK):
        chunk = narrow[start : start + CHUNK]
        scores = buffer[: len(query) * len(chunk)].view(len(query), len(chunk))
        torch.mm(query, chunk.T, out=scores)
        values, rows = _top(scores, min(count, len(chunk)))
        best, place = [*best, values], [*place, rows + start]
        if len(best) > 1:
            joined, places = torch.cat(best, 1), torch.cat(place, 1)
            values, order = joined.topk(min(count, joined.shape[1]), dim=1, sorted=False)
            best, place = [values], [places.gather(1, order)]
    return place[0]


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
    """Top k a row, [B, N] -> [B, k], best first; of equal scores the first places, in order."""
    values, rows = _top(scores, min(k + 1, scores.shape[1]))
    values, order = values.sort(dim=1, descending=True)
    rows = rows.gather(1, order)
    # the search leaves open which of equal scores it takes and how they stand: rare, so repaired
    tied = (values[:, 1:] == values[:, :-1]).any(1).nonzero().flatten()
    values, rows = values[:, :k], rows[:, :k]
    if len(tied):
        again, last = scores[tied], values[tied, k - 1 :]
        above, equal = again > last, again == last
        room = k - above.sum(1, keepdim=True)
        taken = above | (equal & (equal.cumsum(1) <= room))
        first = taken.nonzero()[:, 1].view(len(tied), k)
        values[tied], order = again.gather(1, first).sort(dim=1, descending=True, stable=True)
        rows[tied] = first.gather(1, order)
    return values, rows


def _top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Top k a row in any order, [B, N] -> [B, k], by the maxima of tiles where that is faster.

    The k best lie in the k tiles with the largest maxima: whatever lies in another tile is no
    larger than these k maxima.
    """
    batch, width = scores.shape
    tiles = width // TILE
    if tiles < 16 * k:
        return scores.topk(k, dim=1, sorted=False)
    whole = tiles * TILE
    tiled = scores[:, :whole].view(batch, tiles, TILE)
    chosen = tiled.amax(2).topk(k, dim=1, sorted=False).indices  # [B, k]
    inside = torch.arange(TILE, device=scores.device)
    rows = (chosen[:, :, None] * TILE + inside).view(batch, k * TILE)
    rest = torch.arange(whole, width, device=scores.device).expand(batch, -1)
    rows = torch.cat([rows, rest], 1)
    values, order = scores.gather(1, rows).topk(k, dim=1, sorted=False)
    return values, rows.gather(1, order)
