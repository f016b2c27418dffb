"""Mixtures of a batch with its own reverse order (Un-Mix, arXiv:2003.05438)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from unlabeled.ops.gather import gather, own_rows

if TYPE_CHECKING:
    from jaxtyping import Float


class Mixture(NamedTuple):
    """How two images become one: everywhere (``box`` None), or one's box in the other.

    ``weight`` is the share of the first image: of each pixel's value, or of the pixels.
    """

    weight: float
    box: tuple[int, int, int, int] | None
    """top, left, bottom, right, in pixels."""


def draw_mixture(
    *, seed: int, height: int, width: int, global_share: float, beta: float
) -> Mixture:
    """Draw a mixture for a whole batch; the same seed gives the same one on every rank.

    With probability ``global_share`` a global one, ``weight ~ Beta(beta, beta)``; else a region
    of ``sqrt(1 - weight)`` of each side around a uniform center, cut at the image's edge, after
    which the weight is the exact share of pixels outside of it (algorithm 1; CutMix,
    arXiv:1905.04899).

    Raises:
        ValueError: a share outside [0, 1], or a beta that is not positive.
    """
    if not 0 <= global_share <= 1:
        raise ValueError(f"global_share is {global_share}: give a probability in [0, 1]")
    if beta <= 0:
        raise ValueError(f"beta is {beta}: give a value above 0")
    random = np.random.default_rng(seed)
    everywhere = random.random() < global_share
    weight = float(random.beta(beta, beta))
    if everywhere:
        return Mixture(weight, None)
    half = math.sqrt(1 - weight) / 2
    middle = (int(random.integers(height)), int(random.integers(width)))
    top, bottom = _span(middle[0], int(half * height), height)
    left, right = _span(middle[1], int(half * width), width)
    return Mixture(
        1 - (bottom - top) * (right - left) / (height * width), (top, left, bottom, right)
    )


def _span(middle: int, half: int, side: int) -> tuple[int, int]:
    return max(0, middle - half), min(side, middle + half)


def mix(
    x: Float[Tensor, "B C H W"], other: Float[Tensor, "B C H W"], mixture: Mixture
) -> Float[Tensor, "B C H W"]:
    """``weight x + (1 - weight) other``, or x with the box of ``other``."""
    if mixture.box is None:
        return torch.lerp(other, x, mixture.weight)
    top, left, bottom, right = mixture.box
    mixed = x.clone()
    mixed[..., top:bottom, left:right] = other[..., top:bottom, left:right]
    return mixed


def reversed_rows(x: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
    """Row i of all ranks' rows becomes row N - 1 - i, with gradient; each rank keeps its share."""
    return own_rows(gather(x).flip(0))
