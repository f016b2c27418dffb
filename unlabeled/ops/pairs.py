"""The pairs of a batch of two views: each anchor's positive and its negatives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from unlabeled.ops.gather import gather, rank
from unlabeled.ops.precision import autocast_off, upcast

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def in_batch(
    z1: Float[Tensor, "B D"], z2: Float[Tensor, "B D"]
) -> tuple[Float[Tensor, " A"], Float[Tensor, "A N"]]:
    """Cosines of each anchor with its positive, [2B], and with its negatives, [2B, 2RB - 2].

    Anchors are this rank's views, z1's rows first; the positive is the other view of the same
    sample, negatives are both views of all other samples of all R ranks. Inputs need not be
    normalized; squared distances of unit vectors are ``2 - 2 cos``.

    Raises:
        ValueError: the shapes differ, or there is one sample only and so no negative.
    """
    if z1.shape != z2.shape:
        raise ValueError(f"shapes are {list(z1.shape)} and {list(z2.shape)}: give equal ones")
    with autocast_off(z1):
        z1, z2 = F.normalize(upcast(z1), dim=1), F.normalize(upcast(z2), dim=1)
        anchors, keys = torch.cat([z1, z2]), torch.cat([gather(z1), gather(z2)])
        samples = len(keys) // 2
        if samples < 2:
            raise ValueError("a batch of 1 sample has no negatives: give at least 2 samples")
        own = rank() * len(z1) + torch.arange(len(z1), device=z1.device).repeat(2)
        sample = torch.arange(samples, device=z1.device).repeat(2)
        other = own[:, None] != sample
        negatives = (anchors @ keys.T)[other].view(len(anchors), 2 * samples - 2)
        return (z1 * z2).sum(1).repeat(2), negatives
