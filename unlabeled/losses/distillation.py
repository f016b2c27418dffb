"""Distillation losses: predict another view's target, which gets no gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from unlabeled.ops.precision import autocast_off, upcast

if TYPE_CHECKING:
    from jaxtyping import Float


def regression(p: Float[Tensor, "B D"], z: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Squared distance of unit vectors, ``mean_i 2 - 2 cos(p_i, z_i)``, from 0 to 4.

    One direction; BYOL adds the two (arXiv:2006.07733, eq. 2). z gets no gradient.

    Raises:
        ValueError: the shapes differ.
    """
    return 2 + 2 * negative_cosine(p, z)


def negative_cosine(p: Float[Tensor, "B D"], z: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Return ``-mean_i cos(p_i, z_i)``, from -1 to 1.

    One direction; SimSiam takes the mean of the two (arXiv:2011.10566, eq. 1 and 3). z gets no
    gradient.

    Raises:
        ValueError: the shapes differ.
    """
    if p.shape != z.shape:
        raise ValueError(f"shapes are {list(p.shape)} and {list(z.shape)}: give equal ones")
    with autocast_off(p):
        p, z = F.normalize(upcast(p), dim=1), F.normalize(upcast(z.detach()), dim=1)
        return -(p * z).sum(1).mean()
