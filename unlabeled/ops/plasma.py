"""Plasma: fractal clouds by the diamond-square algorithm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float

    from unlabeled.views.generator import SampleGenerator


def plasma(draw: SampleGenerator, *, side: int, decay: float) -> Float[Tensor, "B side side"]:
    """Return clouds in [0, 1] that repeat at their borders, one for each sample.

    The middle of each square, then of each diamond, is the mean of its corners and a random number
    in [-r, r]; from one scale to the next r falls by ``decay^2`` (as in the code of Hendrycks and
    Dietterich 2019, which takes a falling number times one from its own range).

    Args:
        draw: random numbers of the samples.
        side: a power of two.
        decay: above 1; the larger, the smoother.

    Raises:
        ValueError: another side or decay.
    """
    if side < 2 or side & (side - 1):
        raise ValueError(f"side is {side}: give a power of two")
    if decay <= 1:
        raise ValueError(f"decay is {decay}: give a number above 1")
    height = torch.zeros(len(draw), side, side, device=draw.device)
    step, rough = side, 1.0
    while step >= 2:
        half, count = step // 2, side // step
        noise = draw.uniform(3, count, count, low=-rough, high=rough)
        corner = height[:, ::step, ::step]
        below = corner + corner.roll(-1, 1)
        middle = (below + below.roll(-1, 2)) / 4 + noise[:, 0]
        height[:, half::step, half::step] = middle
        across = corner + corner.roll(-1, 2) + middle + middle.roll(1, 1)
        height[:, ::step, half::step] = across / 4 + noise[:, 1]
        down = corner + corner.roll(-1, 1) + middle + middle.roll(1, 2)
        height[:, half::step, ::step] = down / 4 + noise[:, 2]
        step, rough = half, rough / decay**2
    low, high = height.amin((1, 2), keepdim=True), height.amax((1, 2), keepdim=True)
    return (height - low) / (high - low)
