"""Shuffling batch norm, by which MoCo's keys keep from leaking whose they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.nn.norms import SplitBatchNorm2d
from unlabeled.ops.gather import gather, own_rows, world_size
from unlabeled.ops.precision import upcast

if TYPE_CHECKING:
    from jaxtyping import Float


@torch.no_grad()
def shuffled(
    network: Callable[[Tensor], Tensor], x: Float[Tensor, "B ..."], *, seed: int
) -> Float[Tensor, "B D"]:
    """Apply a network to x in an order that is mixed over all ranks; return the order of x.

    A result then shares its batch statistics with other samples than a query of x does, so they
    cannot tell that the two belong together (MoCo, arXiv:1911.05722, section 3.3).

    Args:
        network: of a batch, row by row.
        x: this rank's views.
        seed: of the order; the same on all ranks, and another one each step.
    """
    views = gather(x)
    order = torch.randperm(len(views), generator=torch.Generator().manual_seed(seed)).to(x.device)
    rows = gather(network(own_rows(views[order])))
    return own_rows(rows[order.argsort()])


def shuffled_keys(
    teacher: Callable[[Tensor], Tensor], x: Float[Tensor, "B ..."], *, seed: int
) -> Float[Tensor, "B D"]:
    """[B, D] of unit length, without gradient, in the order of x: see `shuffled`.

    Args:
        teacher: makes the keys.
        x: this rank's views.
        seed: of the order.
    """
    return F.normalize(upcast(shuffled(teacher, x, seed=seed)), dim=1)


def share_splits(module: nn.Module, *, splits: int) -> None:
    """Divide the splits of the global batch among the ranks, at least one each.

    Raises:
        ValueError: ``splits`` is below 1.
    """
    if splits < 1:
        raise ValueError(f"splits is {splits}: give at least 1")
    for norm in module.modules():
        if isinstance(norm, SplitBatchNorm2d):
            norm.splits = max(1, splits // world_size())
