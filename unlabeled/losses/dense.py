"""Contrast location by location."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.losses.contrastive import info_nce
from unlabeled.ops.precision import upcast

if TYPE_CHECKING:
    from jaxtyping import Float, Int


@torch.no_grad()
def matches(one: Float[Tensor, "B D N"], other: Float[Tensor, "B D M"]) -> Int[Tensor, "B N"]:
    """``c(i) = argmax_j cos(one_i, other_j)``: the place of the other view that looks most alike.

    DenseCL, arXiv:2011.09157, section 3.4, eq. 4.
    """
    alike = F.normalize(upcast(one), dim=1).mT @ F.normalize(upcast(other), dim=1)
    return alike.argmax(2)


def dense_info_nce(
    q: Float[Tensor, "B D N"],
    k: Float[Tensor, "B D M"],
    match: Int[Tensor, "B N"],
    bank: Float[Tensor, "K D"],
    *,
    temperature: float,
) -> Tensor:
    """InfoNCE of each location with its match, among the rows of a bank (DenseCL, eq. 2).

    The mean over ``B N`` rows. Locations are normalized here; only q gets a gradient.
    """
    positive = k.gather(2, match[:, None].expand(-1, k.shape[1], -1))
    rows = q.mT.flatten(0, 1)
    return info_nce(rows, positive.mT.flatten(0, 1), bank, temperature=temperature)
