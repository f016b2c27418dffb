"""Lower bounds on mutual information, and their kin, from scores of positives and negatives.

Each is a loss: the negative of what is to be maximized. Scores are critics' outputs of any scale.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn.functional import softplus

from unlabeled.ops.gather import gather, world_size
from unlabeled.ops.precision import autocast_off, upcast

if TYPE_CHECKING:
    from jaxtyping import Float


def jensen_shannon(
    positives: Float[Tensor, "*P"], negatives: Float[Tensor, "*N"]
) -> Float[Tensor, ""]:
    """``mean softplus(-u_p) + mean softplus(u_n)``; all scores 0 give 2 log 2.

    The estimator of Deep InfoMax (arXiv:1808.06670, eq. 4) with its sign turned; it trains well
    and is no value of mutual information.
    """
    with autocast_off(positives):
        return softplus(-upcast(positives)).mean() + softplus(upcast(negatives)).mean()


def donsker_varadhan(
    positives: Float[Tensor, "*P"], negatives: Float[Tensor, "*N"]
) -> Float[Tensor, ""]:
    """``log mean exp(u_n) - mean u_p``: MINE's bound (arXiv:1801.04062, eq. 8); constants give 0.

    The logarithm of a mean over a batch is biased; the mean is over the negatives of all ranks.
    """
    with autocast_off(positives):
        flat = upcast(negatives).flatten()
        total = gather(flat.logsumexp(0, keepdim=True)).logsumexp(0)
        return total - math.log(len(flat) * world_size()) - upcast(positives).mean()


def nwj(positives: Float[Tensor, "*P"], negatives: Float[Tensor, "*N"]) -> Float[Tensor, ""]:
    """``mean exp(u_n - 1) - mean u_p`` (Nguyen et al. 2010); all scores 1 give 0."""
    with autocast_off(positives):
        return (upcast(negatives) - 1).exp().mean() - upcast(positives).mean()
