"""Labels of equal number: optimal transport of a whole data set onto K clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

CHECK_EVERY = 10


@torch.no_grad()
def transport_plan(
    probability: Float[Tensor, "N K"],
    *,
    power: float,
    tolerance: float = 0.1,
    most: int = 1000,
) -> Float[Tensor, "N K"]:
    """``Q = diag(beta) P^lambda diag(alpha)`` whose rows sum to 1/N and whose columns to 1/K.

    ``alpha <- 1 / (K M^T beta)``, ``beta <- 1 / (N M alpha)`` with ``M = P^lambda``, in float64
    (SeLa, arXiv:1911.05371, eq. 5 and algorithm 1), until ``sum_i |beta_old / beta_new - 1|`` is
    below the tolerance, which is looked at every tenth time.

    Args:
        probability: p(k | x_i), of all samples; scaling a row or a column changes nothing.
        power: lambda; larger is closer to the optimal assignment.
        tolerance: of the stop.
        most: iterations.

    Raises:
        ValueError: power or tolerance is not positive.
    """
    if power <= 0 or tolerance <= 0:
        raise ValueError(f"power is {power}, tolerance {tolerance}: give values above 0")
    count, clusters = probability.shape
    p = probability.double()
    matrix = (p / p.amax(1, keepdim=True)).clamp_min(1e-300).pow_(power)
    beta = torch.full((count,), 1 / count, dtype=torch.float64, device=p.device)
    for step in range(1, most + 1):
        alpha = 1 / (clusters * (beta @ matrix)).clamp_min(1e-300)
        fresh = 1 / (count * (matrix @ alpha)).clamp_min(1e-300)
        if step % CHECK_EVERY == 0 and float((beta / fresh - 1).abs().sum()) < tolerance:
            beta = fresh
            break
        beta = fresh
    return matrix.mul_(alpha).mul_(beta[:, None])


def balanced_labels(
    probability: Float[Tensor, "N K"], *, power: float, tolerance: float = 0.1
) -> Int[Tensor, " N"]:
    """[N]: the cluster with the most of each sample's mass in `transport_plan`."""
    return transport_plan(probability, power=power, tolerance=tolerance).argmax(1)
