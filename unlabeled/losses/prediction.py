"""Prediction losses: a context tells its own future among all latents of the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.ops.gather import gather, rank
from unlabeled.ops.precision import autocast_off, upcast

if TYPE_CHECKING:
    from jaxtyping import Float


def future_nce(
    prediction: Float[Tensor, "B D P S"], latent: Float[Tensor, "B D T S"], *, step: int
) -> Float[Tensor, ""]:
    """InfoNCE of predictions of the latent ``step`` places later (CPC, arXiv:1807.03748, eq. 4).

    ``-mean log exp(p_{t,s} . z_{t+k,s}) / sum_j exp(p_{t,s} . z_j)`` with j over all latents of
    all samples of all ranks, the positive one included. T is the axis of time (frames, or rows of
    an image from the top), S what lies side by side (nothing, or columns). Neither vector is
    normalized and there is no temperature. Zero predictions give log(B T S).

    Args:
        prediction: ``W_k c_t``, of the first T - step places; later ones have no target.
        latent: z, with gradient: positives and negatives train the encoder.
        step: k, at least 1.

    Raises:
        ValueError: a step or shapes that do not fit together.
    """
    batch, _, times, side = latent.shape
    if not 0 < step < times or prediction.shape[2] != times - step:
        raise ValueError(
            f"predictions are {list(prediction.shape)} and latents {list(latent.shape)} at step "
            f"{step}: give predictions of the first T - step places"
        )
    with autocast_off(latent):
        queries = upcast(prediction).permute(0, 2, 3, 1).flatten(0, 2)
        candidates = gather(upcast(latent).permute(0, 2, 3, 1).flatten(0, 2))
        place = torch.arange(batch * times * side, device=latent.device)
        positive = place.view(batch, times, side)[:, step:].flatten() + rank() * len(place)
        return F.cross_entropy(queries @ candidates.T, positive)
