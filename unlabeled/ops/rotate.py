"""Rotations by quarter turns, which move pixels and change none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int


def quarter_turns(
    x: Float[Tensor, "B C S S"], turns: Int[Tensor, " B"]
) -> Float[Tensor, "B C S S"]:
    """Turn each square map counterclockwise by its own number of quarter turns, modulo 4.

    Raises:
        ValueError: the maps are not square.
    """
    if x.shape[-2] != x.shape[-1]:
        raise ValueError(f"maps are {list(x.shape[-2:])}: quarter turns of a batch need squares")
    turned = x.clone()
    for turn in (1, 2, 3):
        chosen = (turns % 4 == turn).nonzero()[:, 0]
        if len(chosen):
            turned[chosen] = torch.rot90(x[chosen], turn, (2, 3))
    return turned
