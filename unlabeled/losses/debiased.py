"""Debiased contrast: a negative term that is corrected for negatives of the anchor's own class."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.ops.gather import gather, rank
from unlabeled.ops.precision import autocast_off, upcast

if TYPE_CHECKING:
    from jaxtyping import Float


def debiased_nt_xent(
    z1: Float[Tensor, "B D"],
    z2: Float[Tensor, "B D"],
    *more: Float[Tensor, "B D"],
    temperature: float,
    prior: float,
) -> Float[Tensor, ""]:
    """NT-Xent whose negatives are debiased: ``-1/2B sum_i log s_ij / (s_ij + N g_i)``.

    s = exp(cosine / t), j is the other view of i's sample, the N = 2B - 2 negatives u are the
    views of all other samples of all ranks, and ``g_i = max((mean_u s_iu - prior mean_v s_iv) /
    (1 - prior), exp(-1/t))`` estimates the mean over samples of other classes from all samples
    and from M positives v: j and ``more`` (Debiased Contrastive Learning, arXiv:2007.00224,
    section 4). With prior 0 it is NT-Xent. Inputs need not be normalized.

    Args:
        z1: one view of each sample.
        z2: the other.
        more: further views of the same samples, of which only the estimate makes use.
        temperature: t.
        prior: the probability that a random sample is of the anchor's class, 1 / C for C equally
            large classes.

    Raises:
        ValueError: the shapes differ, the temperature is not positive, the prior is outside
            [0, 1), or there is one sample only.
    """
    _check(z1, z2, *more, temperature=temperature, prior=prior)
    with autocast_off(z1):
        z1, z2, *further = (F.normalize(upcast(z), dim=1) for z in (z1, z2, *more))
        keys = torch.cat([gather(z1), gather(z2)])
        batch, samples = len(z1), len(keys) // 2
        if samples < 2:
            raise ValueError("one sample has no negatives: give at least 2")
        own = (rank() * batch + torch.arange(batch, device=z1.device)).repeat(2)
        own = torch.stack([own, own + samples], 1)  # both views of the anchor's sample
        negatives = (torch.cat([z1, z2]) @ keys.T / temperature).scatter(1, own, -torch.inf)
        pairs = [(z1 * z2).sum(1).repeat(2)]
        pairs += [torch.cat([(z1 * v).sum(1), (z2 * v).sum(1)]) for v in further]
        positives = torch.stack(pairs, 1) / temperature
        count = 2 * samples - 2
        estimate = log_debiased_mean(
            negatives, positives, count=count, temperature=temperature, prior=prior
        )
        total = torch.logaddexp(positives[:, 0], estimate + math.log(count))
        return (total - positives[:, 0]).mean()


def log_debiased_mean(
    negatives: Float[Tensor, "A K"],
    positives: Float[Tensor, "A M"],
    *,
    count: int,
    temperature: float,
    prior: float,
) -> Float[Tensor, " A"]:
    """Logarithm of g, the debiased mean of exp(logit) over samples of other classes.

    ``g = max((1/N sum_u e^u - prior 1/M sum_v e^v) / (1 - prior), e^(-1/t))`` (arXiv:2007.00224,
    section 4), where e^(-1/t) is the least that exp(cosine / t) can be.

    Args:
        negatives: logits cosine / t of samples of any class; -inf where there is none.
        positives: logits of samples of the anchor's class.
        count: N, how many negatives a row has.
        temperature: t, of the bound.
        prior: the probability of the anchor's class.
    """
    # relative to each row's largest logit nothing overflows; the shift cancels in value and slope
    peak = torch.cat([negatives, positives], 1).amax(1, keepdim=True).detach()
    mixed = (negatives - peak).exp().sum(1) / count
    same = (positives - peak).exp().mean(1)
    least = (-1 / temperature - peak[:, 0]).exp().clamp_min(_TINY)
    mean = torch.maximum((mixed - prior * same) / (1 - prior), least)
    return mean.log() + peak[:, 0]


_TINY = 1e-37  # the least normal float32: where even the bound is 0 beside the largest logit


def _check(first: Tensor, *others: Tensor, temperature: float, prior: float) -> None:
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}: give a value above 0")
    if not 0 <= prior < 1:
        raise ValueError(f"prior is {prior}: give a probability from 0 to below 1")
    for other in others:
        if other.shape != first.shape:
            raise ValueError(
                f"shapes are {list(first.shape)} and {list(other.shape)}: give equal ones"
            )
