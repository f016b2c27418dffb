"""Anchors, positives and negatives: similarities and losses that any contrastive method can use.

The last two of the five parts of Falcon and Cho (arXiv:2009.00104); the first three are a recipe's
views, its encoder, and what `unlabeled.nn.apn` extracts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.ops.precision import autocast_off, upcast

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

Similarity = Callable[[Tensor, Tensor], Tensor]
"""([A, D], [M, D]) -> scores [A, M]."""


class Apn(NamedTuple):
    """A comparison: which candidates are positive and which negative for each anchor.

    A candidate may be neither.
    """

    anchor: Tensor
    """[A, D], of this rank."""
    candidate: Tensor
    """[M, D], of all ranks."""
    positive: Tensor
    """[A, M] bool, at least one in each row, and equally many."""
    negative: Tensor
    """[A, M] bool."""


def dot(anchor: Float[Tensor, "A D"], candidate: Float[Tensor, "M D"]) -> Float[Tensor, "A M"]:
    """``a . c`` (CPC, which applies its matrices W_k before)."""
    with autocast_off(anchor):
        return upcast(anchor) @ upcast(candidate).T


def scaled_dot(
    anchor: Float[Tensor, "A D"], candidate: Float[Tensor, "M D"]
) -> Float[Tensor, "A M"]:
    """``a . c / sqrt(D)`` (AMDIM, arXiv:1906.00910)."""
    return dot(anchor, candidate) * anchor.shape[1] ** -0.5


def cosine(
    anchor: Float[Tensor, "A D"], candidate: Float[Tensor, "M D"], *, temperature: float
) -> Float[Tensor, "A M"]:
    """``cos(a, c) / temperature`` (SimCLR, arXiv:2002.05709)."""
    anchor, candidate = F.normalize(upcast(anchor), dim=1), F.normalize(upcast(candidate), dim=1)
    return dot(anchor, candidate) / temperature


def soft_clip(scores: Tensor, *, bound: float) -> Tensor:
    """``bound tanh(s / bound)``: slope 1 at 0, and never beyond the bound (AMDIM)."""
    return bound * torch.tanh(scores / bound)


def nce(
    scores: Float[Tensor, "A M"], positive: Bool[Tensor, "A M"], negative: Bool[Tensor, "A M"]
) -> dict[str, Tensor]:
    """Contrast each positive alone with all negatives of its anchor.

    ``-mean log exp(s_p) / (exp(s_p) + sum_n exp(s_n))`` over anchors and their positives. Other
    positives of an anchor are in no denominator (AMDIM, arXiv:1906.00910, eq. 3); with one
    positive an anchor this is InfoNCE, and NT-Xent where all other views are negatives. Scores of
    0 give log(1 + the number of negatives).
    """
    with autocast_off(scores):
        scores = upcast(scores)
        against = scores.masked_fill(~negative, -torch.inf).logsumexp(1, keepdim=True)
        loss = F.softplus(against - scores)[positive]
    return {"nce": loss.mean()}


def clipped_nce(
    scores: Float[Tensor, "A M"],
    positive: Bool[Tensor, "A M"],
    negative: Bool[Tensor, "A M"],
    *,
    bound: float = 20.0,
    penalty: float = 5e-2,
) -> dict[str, Tensor]:
    """`nce` of softly clipped scores, and ``penalty mean(s^2)`` of the scores themselves (AMDIM).

    Args:
        scores: not clipped.
        positive: see `Apn`.
        negative: see `Apn`.
        bound: of the clipped scores.
        penalty: weight of the mean square.
    """
    with autocast_off(scores):
        scores = upcast(scores)
        # all candidates of other samples, and the own positives: what is scored at all
        scored = scores[positive | negative]
        terms = nce(soft_clip(scores, bound=bound), positive, negative)
        return {**terms, "penalty": penalty * scored.square().mean()}
