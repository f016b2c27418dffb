"""Contrastive losses: a positive among negatives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from unlabeled.ops.gather import gather, rank, world_size
from unlabeled.ops.precision import autocast_off, upcast

if TYPE_CHECKING:
    from jaxtyping import Float

_BLOCK = 1024  # a block of float32 logits is 4 MB, which stays in cache
_KEPT_ROWS = 4096  # up to here all blocks are kept for the backward pass: 34 MB in place of a GEMM
_CHUNK = 2048
_SAFE_TEMPERATURE = 0.025  # above it exp(-2 / temperature) is a normal float32


def nt_xent(
    z1: Float[Tensor, "B D"], z2: Float[Tensor, "B D"], *, temperature: float
) -> Float[Tensor, ""]:
    """Contrast each view with its partner among all views of all samples.

    ``-1/2B sum_i log exp(s_ij / t) / sum_{k != i} exp(s_ik / t)`` with s the cosine similarity, j
    the other view of i's sample, and k over the 2B views of all ranks: the mean over anchors, in
    both directions (SimCLR, arXiv:2002.05709, eq. 1; the official code returns twice this).
    Inputs need not be normalized. Equal embeddings give log(2B - 1). The matrix of logits is
    worked through in blocks: the memory is linear in the batch, at any temperature and on any
    number of ranks, each of which serves its own rows.

    Raises:
        ValueError: the temperature is not positive, or the views' shapes differ.
    """
    _check(z1, z2, temperature=temperature)
    with autocast_off(z1):
        anchors = F.normalize(torch.cat([upcast(z1), upcast(z2)]), dim=1)
        if world_size() == 1 and temperature >= _SAFE_TEMPERATURE:
            return _NtXent.apply(anchors, temperature, _BLOCK, len(anchors) <= _KEPT_ROWS)
        return _NtXentOfRows.apply(anchors, temperature, _BLOCK)


def info_nce(
    q: Float[Tensor, "B D"],
    k: Float[Tensor, "B D"],
    bank: Float[Tensor, "K D"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """Contrast each query with its key among the rows of a bank.

    ``-1/B sum_i log exp(q_i.k_i / t) / (exp(q_i.k_i / t) + sum_j exp(q_i.bank_j / t))``
    (MoCo, arXiv:1911.05722, eq. 1). Queries and keys are normalized here, rows of the bank must
    have unit length. Only q gets a gradient. The bank is read once, in chunks: nothing of size
    B x K is kept, and the bank may change before the backward pass.

    Raises:
        ValueError: the temperature is not positive, or the shapes of q and k differ.
    """
    _check(q, k, temperature=temperature)
    with autocast_off(q):
        q = F.normalize(upcast(q), dim=1)
        k = F.normalize(k.detach().to(q.dtype), dim=1)
        return _InfoNce.apply(q, k, bank.detach().to(q.dtype), temperature, _CHUNK)


def _check(one: Tensor, other: Tensor, *, temperature: float) -> None:
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}: give a value above 0")
    if one.shape != other.shape:
        raise ValueError(f"shapes are {list(one.shape)} and {list(other.shape)}: give equal ones")


class _NtXent(torch.autograd.Function):
    """NT-Xent of unit rows z = [z1; z2], block by block of the symmetric matrix of logits.

    Logits are at most 1/t, so exp(logit - 1/t) needs no running maximum. With e_ij these values
    and r_i their row sums, the gradient with respect to z_i is, up to the positives,
    ``sum_j e_ij (1/r_i + 1/r_j) z_j``: each block serves its rows and, transposed, its columns.
    The backward pass computes the blocks again unless they are kept.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, temperature: float, block: int, keep: bool) -> Tensor:
        rows, half = len(z), len(z) // 2
        sums = z.new_zeros(rows)
        kept = []
        for i, j, values in _upper_blocks(z, temperature, block, share=not keep):
            sums[i : i + block] += values.sum(1)
            if j != i:
                sums[j : j + block] += values.sum(0)
            if keep:
                kept.append(values)
        ctx.save_for_backward(z, sums, *kept)
        ctx.temperature, ctx.block = temperature, block
        positives = (z[:half] * z[half:]).sum()
        return (sums.log().sum() + (rows - 2 * positives) / temperature) / rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        z, sums, *kept = ctx.saved_tensors
        block, half = ctx.block, len(z) // 2
        shares = sums.reciprocal()
        total = -2 * z.roll(half, 0)
        blocks = _upper_blocks(z, ctx.temperature, block, share=True)
        if kept:
            blocks = zip(*_upper_places(len(z), block), kept, strict=True)
        for i, j, values in blocks:
            weights = shares[i : i + block, None] + shares[j : j + block]
            weights *= values
            total[i : i + block].addmm_(weights, z[j : j + block])
            if j != i:
                total[j : j + block].addmm_(weights.T, z[i : i + block])
        return total.mul_(grad / (ctx.temperature * len(z))), None, None, None


def _upper_places(rows: int, block: int) -> tuple[list[int], list[int]]:
    """First rows and first columns of the blocks on and above the diagonal."""
    starts = range(0, rows, block)
    pairs = [(i, j) for i in starts for j in starts if j >= i]
    return [i for i, _ in pairs], [j for _, j in pairs]


def _upper_blocks(
    z: Tensor, temperature: float, block: int, *, share: bool
) -> Iterator[tuple[int, int, Tensor]]:
    """Yield (row, column, exp(logits - 1/t)) of the blocks of `_upper_places`; the diagonal is 0.

    With ``share`` all blocks use one buffer: use a block before asking for the next.
    """
    buffer = z.new_empty(min(block, len(z)) ** 2 if share else 0)
    for i, j in zip(*_upper_places(len(z), block), strict=True):
        rows, columns = z[i : i + block], z[j : j + block]
        values = _view(buffer, len(rows), len(columns)) if share else None
        values = torch.mm(rows, columns.T, out=values)
        values.sub_(1).mul_(1 / temperature).exp_()
        if i == j:
            values.fill_diagonal_(0)
        yield i, j, values


class _NtXentOfRows(torch.autograd.Function):
    """NT-Xent of this rank's unit rows z = [z1; z2] against the rows of all ranks.

    A running maximum a row, so any temperature will do. With L_i the log of row i's sum, the
    gradient with respect to z_i is, up to the positives,
    ``sum_j (exp(s_ij / t - L_i) + exp(s_ij / t - L_j)) z_j``: knowing all L, each rank has the
    whole gradient of its own rows and no gradient is exchanged.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, temperature: float, block: int) -> Tensor:
        keys = gather(z)
        positives = (z * z.roll(len(z) // 2, 0)).sum(1) / temperature
        top, total = positives.clone(), torch.zeros_like(positives)
        for i, _, logits in _row_blocks(z, keys, temperature, block):
            part = slice(i, i + block)
            higher = torch.maximum(top[part], logits.amax(1))
            total[part] *= (top[part] - higher).exp_()
            total[part] += logits.sub_(higher[:, None]).exp_().sum(1)
            top[part] = higher
        sums = top + total.log()
        ctx.save_for_backward(z, keys, sums)
        ctx.temperature, ctx.block = temperature, block
        return (sums - positives).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        z, keys, sums = ctx.saved_tensors
        block = ctx.block
        # the ranks' losses may be weighted differently
        weights = gather(grad.expand(len(z)).contiguous())
        all_sums = gather(sums)
        total = -2 * grad * z.roll(len(z) // 2, 0)
        other = z.new_empty(min(block, len(z)) * min(block, len(keys)))
        for i, j, logits in _row_blocks(z, keys, ctx.temperature, block):
            mirrored = _view(other, *logits.shape)
            torch.sub(logits, all_sums[j : j + block], out=mirrored)
            mirrored.exp_().mul_(weights[j : j + block])
            logits.sub_(sums[i : i + block, None]).exp_().mul_(grad).add_(mirrored)
            total[i : i + block].addmm_(logits, keys[j : j + block])
        return total.mul_(1 / (ctx.temperature * len(z))), None, None


def _row_blocks(
    z: Tensor, keys: Tensor, temperature: float, block: int
) -> Iterator[tuple[int, int, Tensor]]:
    """Yield (row, column, logits) for all blocks, -inf where a row meets itself.

    All blocks share one buffer: use a block before asking for the next.
    """
    buffer = z.new_empty(min(block, len(z)) * min(block, len(keys)))
    first = rank() * len(z)
    for i in range(0, len(z), block):
        rows = z[i : i + block]
        for j in range(0, len(keys), block):
            columns = keys[j : j + block]
            logits = torch.mm(rows, columns.T, out=_view(buffer, len(rows), len(columns)))
            logits.mul_(1 / temperature)
            # row r of the block is key first + i + r: the diagonal that starts at this column
            logits.diagonal(first + i - j).fill_(-torch.inf)
            yield i, j, logits


def _view(buffer: Tensor, rows: int, columns: int) -> Tensor:
    return buffer[: rows * columns].view(rows, columns)


class _InfoNce(torch.autograd.Function):
    """InfoNCE of unit rows: loss and gradient in one pass over the bank.

    Keeps, for each query, the running maximum of its logits, the sum of exp(logit - maximum) and
    the sum of keys weighted by it; the last over the sum is the gradient's negative part.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, bank: Tensor, temperature: float, chunk: int
    ) -> Tensor:
        queries = q / temperature
        positives = (queries * k).sum(1)
        top, total, pull = positives, torch.ones_like(positives), k.clone()
        buffer = q.new_empty(len(q) * min(chunk, len(bank)))
        for keys in bank.split(chunk):
            logits = torch.mm(queries, keys.T, out=_view(buffer, len(q), len(keys)))
            higher = torch.maximum(top, logits.amax(1))
            rescale = (top - higher).exp_()
            logits.sub_(higher[:, None]).exp_()
            total = total * rescale + logits.sum(1)
            pull.mul_(rescale[:, None]).addmm_(logits, keys)
            top = higher
        ctx.save_for_backward((pull / total[:, None] - k) / (temperature * len(q)))
        return (top + total.log() - positives).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None, None, None
