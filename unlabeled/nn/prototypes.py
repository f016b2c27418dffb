"""Prototypes: unit vectors that features are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.ops.precision import autocast_off, upcast

if TYPE_CHECKING:
    from jaxtyping import Float


class Prototypes(nn.Module):
    """``scores = z W^T`` with one row of ``weight`` [count, dim] a prototype, and no bias.

    SwAV (arXiv:2006.09882, sec. 3.1). Rows start as random unit vectors; call `normalize` before
    the forward pass of each step, since an optimizer's step leaves the sphere. Scores are float32
    under mixed precision.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        if dim < 1 or count < 1:
            raise ValueError(f"{count} prototypes x {dim}: give sizes of at least 1")
        self.weight = nn.Parameter(torch.randn(count, dim))
        self.normalize()

    @torch.no_grad()
    def normalize(self) -> None:
        """Scale every row to unit length, in place."""
        self.weight.copy_(F.normalize(self.weight, dim=1))

    def forward(self, z: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """[B, dim] -> [B, count]; cosine similarities for unit z and normalized rows."""
        with autocast_off(z):
            return F.linear(upcast(z), upcast(self.weight))
