"""Sparsemax: the nearest distribution, of which many entries are 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


def sparsemax(z: Float[Tensor, "*B n"], mask: Bool[Tensor, "*B n"]) -> Float[Tensor, "*B n"]:
    """``argmin_p |p - z|^2`` over distributions p on the entries of ``mask``; 0 where it is empty.

    ``p = max(z - t, 0)`` with t such that p sums to 1 (Martins and Astudillo 2016, algorithm 1).
    """
    low = torch.finfo(z.dtype).min / 4
    ordered = torch.where(mask, z, low).sort(dim=-1, descending=True).values
    count = torch.arange(1, z.shape[-1] + 1, device=z.device, dtype=z.dtype)
    sums = torch.where(ordered > low / 2, ordered, 0).cumsum(-1)
    inside = (1 + count * ordered > sums) & (ordered > low / 2)
    support = inside.sum(-1, keepdim=True).clamp_min(1)
    threshold = (sums.gather(-1, support - 1) - 1) / support
    return torch.where(mask, (z - threshold).clamp_min(0), 0)
