"""Contrast with several positives: the other view, and views of samples that belong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.ops.gather import gather, rank
from unlabeled.ops.precision import autocast_off, upcast

if TYPE_CHECKING:
    from jaxtyping import Float


def multi_positive_nt_xent(
    z1: Float[Tensor, "B D"],
    z2: Float[Tensor, "B D"],
    also: Float[Tensor, "A N"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """NT-Xent averaged over the positives of each anchor.

    ``-1/2B sum_i 1/W_i sum_j w_ij log exp(s_ij / t) / sum_{k != i} exp(s_ik / t)`` with s the
    cosine similarity, k over the 2N views of all ranks and ``W_i = sum_j w_ij``: the sum over
    positives stands outside of the logarithm (Supervised Contrastive Learning, arXiv:2004.11362,
    eq. 2). The other view of i's own sample has weight 1; with ``also`` all 0 this is NT-Xent.
    Inputs need not be normalized.

    Args:
        z1: one view of each of this rank's B samples.
        z2: the other.
        also: [2B, N] weights of the views of each of the N samples of all ranks (in rank order)
            as further positives of this rank's anchors, z1's rows first. A sample's weight counts
            for both of its views; what it says of the anchor's own sample is not read.
        temperature: t.

    Raises:
        ValueError: a shape does not fit, or the temperature is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}: give a value above 0")
    if z1.shape != z2.shape:
        raise ValueError(f"shapes are {list(z1.shape)} and {list(z2.shape)}: give equal ones")
    with autocast_off(z1):
        z1, z2 = F.normalize(upcast(z1), dim=1), F.normalize(upcast(z2), dim=1)
        keys = torch.cat([gather(z1), gather(z2)])
        batch, samples = len(z1), len(keys) // 2
        if also.shape != (2 * batch, samples):
            raise ValueError(
                f"weights are {list(also.shape)}: give [{2 * batch}, {samples}], a row an anchor "
                "and a column a sample of all ranks"
            )
        own = (rank() * batch + torch.arange(batch, device=z1.device)).repeat(2)[:, None]
        itself = own.clone()
        itself[batch:] += samples  # the anchor's own place among the keys
        weight = also.to(z1.dtype).scatter(1, own, 1.0).repeat(1, 2).scatter(1, itself, 0.0)
        logits = torch.cat([z1, z2]) @ keys.T / temperature
        total = logits.scatter(1, itself, -torch.inf).logsumexp(1)
        return (total - (weight * logits).sum(1) / weight.sum(1)).mean()
