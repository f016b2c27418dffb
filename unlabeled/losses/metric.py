"""Metric losses: margins between the distances of positives and of negatives.

Distances are of the caller's choice; those of unit vectors are ``sqrt(2 - 2 cos)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from unlabeled.ops.precision import autocast_off, upcast

if TYPE_CHECKING:
    from jaxtyping import Float


def pair_margin(
    positives: Float[Tensor, "*P"], negatives: Float[Tensor, "*N"], *, margin: float
) -> Float[Tensor, ""]:
    """Pull positives together and push negatives out of a margin.

    ``mean_p 1/2 d_p^2 + mean_n 1/2 max(0, m - d_n)^2`` of distances d (Hadsell, Chopra and LeCun,
    CVPR 2006, eq. 4, with the mean over each kind of pair).

    Raises:
        ValueError: the margin is not positive.
    """
    _check(margin)
    with autocast_off(positives):
        pull = upcast(positives).square().mean()
        return (pull + (margin - upcast(negatives)).clamp_min(0).square().mean()) / 2


def triplet(
    positives: Float[Tensor, " A"], negatives: Float[Tensor, "A N"], *, margin: float
) -> Float[Tensor, ""]:
    """Keep every negative farther than the positive: ``mean max(0, d_p^2 - d_n^2 + m)``.

    FaceNet, arXiv:1503.03832, eq. 3, with the mean over anchors and negatives; distances d.

    Raises:
        ValueError: the margin is not positive.
    """
    _check(margin)
    with autocast_off(positives):
        gap = upcast(positives).square()[:, None] - upcast(negatives).square()
        return (gap + margin).clamp_min(0).mean()


def semi_hard_triplet(
    positives: Float[Tensor, " A"], negatives: Float[Tensor, "A N"], *, margin: float
) -> Float[Tensor, ""]:
    """`triplet` with one mined negative an anchor: the nearest that is farther than the positive.

    Where none is, the farthest one is taken (FaceNet, arXiv:1503.03832, section 3.2, and the usual
    in-batch form of it).

    Raises:
        ValueError: the margin is not positive.
    """
    with autocast_off(positives):
        positives, negatives = upcast(positives), upcast(negatives)
        outside = negatives.detach() > positives.detach()[:, None]
        nearest = negatives.detach().masked_fill(~outside, float("inf")).argmin(1)
        place = nearest.where(outside.any(1), negatives.detach().argmax(1))
        return triplet(positives, negatives.gather(1, place[:, None]), margin=margin)


def lifted_structure(
    positives: Float[Tensor, " A"], negatives: Float[Tensor, "A N"], *, margin: float
) -> Float[Tensor, ""]:
    """Each positive pair against all negatives of both of its ends.

    ``1/2P sum_ij max(0, log(sum_k e^(m - d_ik) + sum_l e^(m - d_jl)) + d_ij)^2`` over the P
    positive pairs (Lifted structured embedding, arXiv:1511.06452, eq. 4). Anchors a and a + A/2
    are the two ends of a pair, as `ops.pairs.in_batch` orders them.

    Raises:
        ValueError: the margin is not positive, or the number of anchors is odd.
    """
    _check(margin)
    if len(positives) % 2:
        raise ValueError(f"there are {len(positives)} anchors: give both ends of each pair")
    with autocast_off(positives):
        half = len(positives) // 2
        crowd = (margin - upcast(negatives)).logsumexp(1)
        both = crowd[:half].logaddexp(crowd[half:]) + upcast(positives)[:half]
        return both.clamp_min(0).square().mean() / 2


def n_pair(positives: Float[Tensor, " A"], negatives: Float[Tensor, "A N"]) -> Float[Tensor, ""]:
    """``mean log(1 + sum_n exp(s_n - s_p))`` of similarities s (Sohn, NeurIPS 2016, eq. 7).

    The same as InfoNCE at temperature 1; one negative with an equal score gives log 2.
    """
    with autocast_off(positives):
        gap = upcast(negatives) - upcast(positives)[:, None]
        return gap.logsumexp(1).logaddexp(gap.new_zeros(())).mean()


def _check(margin: float) -> None:
    if margin <= 0:
        raise ValueError(f"margin is {margin}: give a value above 0")
