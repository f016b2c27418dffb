"""InfoNCE of similarities that are known already, where each query has negatives of its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unlabeled.ops.precision import autocast_off, upcast

if TYPE_CHECKING:
    from jaxtyping import Float


def info_nce_of(
    positives: Float[Tensor, " B"], negatives: Float[Tensor, "B K"], *, temperature: float
) -> Float[Tensor, ""]:
    """Contrast the similarity of each query's key with those of its negatives.

    ``-1/B sum_i log exp(p_i / t) / (exp(p_i / t) + sum_j exp(n_ij / t))``
    (MoCo, arXiv:1911.05722, eq. 1). `losses.contrastive.info_nce` is the same for one bank that
    all queries share, and needs less memory.

    Args:
        positives: cosine of each query and its key.
        negatives: cosine of each query and its negatives; -inf for one that does not count.
        temperature: t.

    Raises:
        ValueError: the temperature is not positive, or the numbers of rows differ.
    """
    return _contrast(positives, negatives, temperature=temperature, shift=0.0)


def equivalent_info_nce(
    positives: Float[Tensor, " B"],
    negatives: Float[Tensor, "B K"],
    *,
    temperature: float,
    alpha: float,
) -> Float[Tensor, ""]:
    """InfoNCE in which K negatives weigh as much as ``alpha``.

    ``-1/B sum_i log exp(p_i / t) / (exp(p_i / t) + alpha/K sum_j exp(n_ij / t))``, which is a
    margin of ``t log(alpha / K)`` on the positive: the bound on mutual information and the size
    of the gradient then do not depend on K (EqCo, arXiv:2010.01929). With alpha = K
    it is InfoNCE; equal similarities give log(1 + alpha) for every K.

    Args:
        positives: cosine of each query and its key.
        negatives: cosine of each query and its K negatives.
        temperature: t.
        alpha: the number of negatives that the K stand for.

    Raises:
        ValueError: the temperature or alpha is not positive, there is no negative, or the numbers
            of rows differ.
    """
    count = negatives.shape[-1]
    if alpha <= 0 or count == 0:
        raise ValueError(f"alpha is {alpha} with {count} negatives: give more than 0 of both")
    shift = math.log(alpha / count)
    return _contrast(positives, negatives, temperature=temperature, shift=shift)


def _contrast(positives: Tensor, negatives: Tensor, *, temperature: float, shift: float) -> Tensor:
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}: give a value above 0")
    if negatives.shape[:-1] != positives.shape:
        raise ValueError(
            f"similarities are {list(positives.shape)} and {list(negatives.shape)}: "
            "give [B] and [B, K]"
        )
    with autocast_off(positives):
        positive = upcast(positives)[:, None] / temperature
        logits = torch.cat([positive, upcast(negatives) / temperature + shift], 1)
        return (logits.logsumexp(1) - logits[:, 0]).mean()
