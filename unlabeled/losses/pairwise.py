"""Losses on squared distances of positive and negative pairs (2010.00578, section 3).

``r = |a - b|^2 / 2``, which is ``1 - cos`` for unit vectors. All have ``dL/dr+ > 0``,
``dL/dr- < 0`` and ``dL/dr+ + sum dL/dr- = 0``: what makes their gradient a covariance operator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import softplus

if TYPE_CHECKING:
    from jaxtyping import Float


def difference(positive: Float[Tensor, " A"], negatives: Float[Tensor, "A N"]) -> Float[Tensor, ""]:
    """``mean r+ - mean r-``: the simplest of them."""
    return positive.mean() - negatives.mean()


def distance_nce(
    positive: Float[Tensor, " A"], negatives: Float[Tensor, "A N"], *, temperature: float
) -> Float[Tensor, ""]:
    """``-mean log e^(-r+ / t) / (e^(-r+ / t) + sum_k e^(-r-_k / t))``."""
    scores = -torch.cat([positive[:, None], negatives], 1) / temperature
    return (scores.logsumexp(1) - scores[:, 0]).mean()


def soft_triplet(
    positive: Float[Tensor, " A"], negatives: Float[Tensor, "A N"], *, temperature: float
) -> Float[Tensor, ""]:
    """``t mean log(1 + e^((r+ - r-) / t))``."""
    return temperature * softplus((positive[:, None] - negatives) / temperature).mean()


def exact_covariance(
    positive: Float[Tensor, " A"],
    negatives: Float[Tensor, "A N"],
    *,
    temperature: float,
    beta: float = 0.0,
) -> Float[Tensor, ""]:
    """The loss whose gradient is the weighted covariance operator alone.

    ``mean_i (1 + beta) (sum_j w_ij) r+_i - sum_j w_ij r_ij`` with
    ``w = e^(-r / t) / (1 + e^(-r / t)) / (t N)``, which are constants. beta changes how much the
    variance under augmentation counts; 0 is the operator itself (section 3.3).
    """
    weight = torch.sigmoid(-negatives.detach() / temperature) / (temperature * negatives.shape[1])
    return ((1 + beta) * weight.sum(1) * positive - (weight * negatives).sum(1)).mean()
