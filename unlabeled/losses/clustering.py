"""Clustering losses: predict a view's assignment from another view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unlabeled.losses.crossview import cross_view

if TYPE_CHECKING:
    from jaxtyping import Float


def swapped_prediction(
    scores: list[Float[Tensor, "B K"]], codes: list[Float[Tensor, "B K"]], *, temperature: float
) -> Float[Tensor, ""]:
    """Predict the codes of each assigning crop from every other crop.

    ``mean_a mean_{v != a} mean_i -sum_k codes_a[i, k] log softmax(scores_v[i] / t)[k]`` (SwAV,
    arXiv:2006.09882, eq. 2 and 6). Crop a of ``codes`` is crop a of ``scores``. Codes get no
    gradient. Uniform codes and scores give log K. One backward pass only (`cross_view`).

    Args:
        scores: similarities with the K prototypes, one tensor a crop; assigning crops first.
        codes: assignments whose rows sum to 1, one tensor an assigning crop.
        temperature: the softmax's.

    Raises:
        ValueError: the temperature is not positive, fewer than two crops, no codes, or more codes
            than crops.
    """
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}: give a value above 0")
    if len(scores) < 2 or not 1 <= len(codes) <= len(scores):
        raise ValueError(
            f"{len(scores)} crops and {len(codes)} codes: give at least two crops, and codes for "
            "at least one and at most all of them"
        )
    fixed = [code.detach() for code in codes]
    return cross_view(
        [score[None] for score in scores],
        lambda rows: torch.stack([code[rows] for code in fixed]),
        count=len(fixed),
        temperature=temperature,
    )
