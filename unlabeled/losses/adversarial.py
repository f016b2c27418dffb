"""Adversarial losses: a critic scores what is real and what is made; its rivals make the latter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unlabeled.ops.precision import autocast_off, upcast

if TYPE_CHECKING:
    from jaxtyping import Float


def hinge(
    real: Sequence[Float[Tensor, " B"]], made: Sequence[Float[Tensor, " B"]]
) -> Float[Tensor, ""]:
    """What a critic minimises: ``sum_k mean max(0, 1 - s_k(real)) + mean max(0, 1 + s_k(made))``.

    The hinge is taken of each score k by itself, never of their sum (BigBiGAN, arXiv:1907.02544,
    section 2); with one score this is the hinge loss of Lim and Ye, arXiv:1705.02894.

    Raises:
        ValueError: other numbers of scores.
    """
    _check(real, made)
    with autocast_off(real[0]):
        terms = [
            (1 - upcast(one)).clamp_min(0).mean() + (1 + upcast(other)).clamp_min(0).mean()
            for one, other in zip(real, made, strict=True)
        ]
        return torch.stack(terms).sum()


def score_gap(
    real: Sequence[Float[Tensor, " B"]], made: Sequence[Float[Tensor, " B"]]
) -> Float[Tensor, ""]:
    """What the critic's rivals minimise: ``sum_k mean s_k(real) - mean s_k(made)``.

    Both sides count, since the rivals have a part in both: with latents that are inferred from real
    samples, whoever infers them wants to be scored as what is made (BigBiGAN, arXiv:1907.02544,
    section 2).

    Raises:
        ValueError: other numbers of scores.
    """
    _check(real, made)
    with autocast_off(real[0]):
        terms = [
            upcast(one).mean() - upcast(other).mean() for one, other in zip(real, made, strict=True)
        ]
        return torch.stack(terms).sum()


def _check(real: Sequence[Tensor], made: Sequence[Tensor]) -> None:
    if len(real) != len(made) or not real:
        raise ValueError(
            f"{len(real)} scores of what is real, {len(made)} of what is made: give equally many"
        )
