"""Contrastive losses: a positive among negatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from unlabeled.ops.gather import gather, rank, world_size
from unlabeled.ops.precision import autocast_off, upcast

if TYPE_CHECKING:
    from jaxtyping import Float

_PLAIN_ROWS = 4096  # up to here one matrix of all logits is cheap enough
_BLOCK = 1024  # a block of float32 logits is 4 MB, which stays in cache
_CHUNK = 2048
_SAFE_TEMPERATURE = 0.025  # above it exp(-2 / temperature) is a normal float32


def nt_xent(
    z1: Float[Tensor, "B D"], z2: Float[Tensor, "B D"], *, temperature: float
) -> Float[Tensor, ""]:
    """Contrast each view with its partner among all views of all samples.

    ``-1/2B sum_i log exp(s_ij / t) / sum_{k != i} exp(s_ik / t)`` with s the cosine similarity, j
    the other view of i's sample, and k over the 2B views of all ranks: the mean over anchors, in
    both directions (SimCLR, arXiv:2002.05709, eq. 1; the official code returns twice this).
    Inputs need not be normalized. Equal embeddings give log(2B - 1). Above 4096 anchors on one
    rank the memory is linear in the batch.

    Raises:
        ValueError: the temperature is not positive, or the views' shapes differ.
    """
    _check(z1, z2, temperature=temperature)
    with autocast_off(z1):
        z1, z2 = F.normalize(upcast(z1), dim=1), F.normalize(upcast(z2), dim=1)
        anchors = torch.cat([z1, z2])
        large = len(anchors) > _PLAIN_ROWS and temperature >= _SAFE_TEMPERATURE
        if large and world_size() == 1:
            return _NtXent.apply(anchors, temperature, _BLOCK)
        keys = torch.cat([gather(z1), gather(z2)])
        batch = len(z1)
        first = rank() * batch + torch.arange(batch, device=z1.device)
        own = torch.cat([first, first + len(keys) // 2])
        logits = anchors @ keys.T / temperature
        positives = (z1 * z2).sum(1).repeat(2) / temperature
        return (logits.scatter(1, own[:, None], -torch.inf).logsumexp(1) - positives).mean()


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
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, temperature: float, block: int) -> Tensor:
        rows, half = len(z), len(z) // 2
        sums = z.new_zeros(rows)
        for i, j, values in _blocks(z, temperature, block):
            sums[i : i + block] += values.sum(1)
            if j != i:
                sums[j : j + block] += values.sum(0)
        ctx.save_for_backward(z, sums)
        ctx.temperature, ctx.block = temperature, block
        positives = (z[:half] * z[half:]).sum()
        return (sums.log().sum() + (rows - 2 * positives) / temperature) / rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        z, sums = ctx.saved_tensors
        block, half = ctx.block, len(z) // 2
        shares = sums.reciprocal()
        total = -2 * z.roll(half, 0)
        for i, j, values in _blocks(z, ctx.temperature, block):
            values *= shares[i : i + block, None] + shares[j : j + block]
            total[i : i + block].addmm_(values, z[j : j + block])
            if j != i:
                total[j : j + block].addmm_(values.T, z[i : i + block])
        return total.mul_(grad / (ctx.temperature * len(z))), None, None


def _blocks(z: Tensor, temperature: float, block: int) -> Any:
    """Yield (row, column, exp(logits - 1/t)) for blocks on and above the diagonal, which is 0.

    All blocks share one buffer: use a block before asking for the next.
    """
    buffer = z.new_empty(block * block)
    for i in range(0, len(z), block):
        rows = z[i : i + block] / temperature
        for j in range(i, len(z), block):
            columns = z[j : j + block]
            values = buffer[: len(rows) * len(columns)].view(len(rows), len(columns))
            torch.mm(rows, columns.T, out=values)
            values.sub_(1 / temperature).exp_()
            if i == j:
                values.fill_diagonal_(0)
            yield i, j, values


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
            logits = buffer[: len(q) * len(keys)].view(len(q), len(keys))
            torch.mm(queries, keys.T, out=logits)
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
