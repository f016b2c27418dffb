"""Sinkhorn-Knopp: soft assignments that use all prototypes equally."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unlabeled.ops.gather import all_max, all_sum
from unlabeled.ops.precision import autocast_off, upcast

if TYPE_CHECKING:
    from jaxtyping import Float

_FLOOR = 1e-30  # below it a prototype has no mass that float32 can hold; keeps all values finite


@torch.no_grad()
def sinkhorn(
    scores: Float[Tensor, "B K"], *, epsilon: float = 0.05, iterations: int = 3
) -> Float[Tensor, "B K"]:
    """Balanced codes: rows sum to 1, and each prototype gets about B / K of the samples.

    ``Q = diag(u) exp(scores / epsilon) diag(v)``, where ``iterations`` times first v makes the K
    prototypes equal, then u makes the samples equal (SwAV, arXiv:2006.09882, eq. 3-5). Only the
    scaling vectors are updated, the matrix is read. On several ranks the prototypes' sums run
    over all ranks, so the codes are those of the joined batch.

    Args:
        scores: similarities of samples and prototypes; queue rows, if any, are samples too.
        epsilon: the entropy's weight; smaller is harder.
        iterations: how often both sides are scaled.

    Returns:
        Codes without gradient, float32 (float64 for float64 scores).

    Raises:
        ValueError: epsilon or iterations is not positive.
    """
    if epsilon <= 0 or iterations < 1:
        raise ValueError(
            f"epsilon is {epsilon} and iterations {iterations}: give epsilon > 0, iterations >= 1"
        )
    with autocast_off(scores):
        scaled = upcast(scores) / epsilon
        # each row is shifted by its own maximum, so no row underflows; the weights put it back
        peak = scaled.amax(1)
        kernel = scaled.sub_(peak[:, None]).exp_()
        rows = (peak - all_max(peak.max())).exp_()
        for _ in range(iterations):
            columns = all_sum(rows @ kernel).clamp_min_(_FLOOR).reciprocal_()
            rows = (kernel @ columns).reciprocal_()
        return kernel.mul_(columns).mul_(rows[:, None])
