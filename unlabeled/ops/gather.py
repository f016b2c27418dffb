"""The one place that knows ranks. On one rank every function here is the identity or trivial.

The rule for losses: the objective is the mean of the ranks' losses, which is what DDP's averaging
of gradients minimises. A loss that gathers with these functions has on R ranks the value and the
gradient that it has on one rank with the joined batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx


def world_size() -> int:
    """Return the number of ranks, 1 when nothing is distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's rank, 0 when nothing is distributed."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Any) -> Tensor:
        # every rank's loss may depend on this rank's rows: sum over ranks, keep the own slice
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        rows = len(total) // world_size()
        return total[rank() * rows : (rank() + 1) * rows]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        total = x.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Any) -> Tensor:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def gather(x: Tensor) -> Tensor:
    """[B, ...] -> [R B, ...]: the rows of all ranks, in rank order, with gradient.

    All ranks must hold equally many rows.
    """
    return x if world_size() == 1 else _Gather.apply(x)


def own_rows(x: Tensor) -> Tensor:
    """[N, ...] -> [N / R, ...]: this rank's share of rows that all ranks hold; undoes `gather`."""
    return x.tensor_split(world_size())[rank()]


def all_sum(x: Tensor) -> Tensor:
    """Sum over ranks, with gradient."""
    return x if world_size() == 1 else _Sum.apply(x)


def all_max(x: Tensor) -> Tensor:
    """Elementwise maximum over ranks; no gradient."""
    if world_size() == 1:
        return x.detach()
    top = x.detach().contiguous().clone()
    dist.all_reduce(top, op=dist.ReduceOp.MAX)
    return top
