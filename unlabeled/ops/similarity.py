"""Cosine similarities in full precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from unlabeled.ops.precision import autocast_off, upcast

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def cosines(q: Float[Tensor, "B D"], keys: Float[Tensor, "*B K D"]) -> Float[Tensor, "B K"]:
    """Compare each query with its keys: ``q_i.k_j / (|q_i| |k_j|)``.

    Args:
        q: [B, D] queries, of any length.
        keys: [K, D], the same for all queries, or [B, K, D], each query's own.

    Returns:
        [B, K], float32 also under autocast (float64 for float64 inputs). Gradient goes to both.

    Raises:
        ValueError: the widths differ, or each query's own keys are not those of B queries.
    """
    if q.shape[-1] != keys.shape[-1] or (keys.ndim == 3 and len(keys) != len(q)):
        raise ValueError(
            f"queries are {list(q.shape)}, keys {list(keys.shape)}: give [B, D] and [K, D] or "
            "[B, K, D]"
        )
    with autocast_off(q):
        q, keys = F.normalize(upcast(q), dim=-1), F.normalize(upcast(keys), dim=-1)
        if keys.ndim == 2:
            return q @ keys.T
        return torch.bmm(keys, q[:, :, None])[:, :, 0]


def paired_cosines(q: Float[Tensor, "B D"], k: Float[Tensor, "B D"]) -> Float[Tensor, " B"]:
    """Compare each query with one key: ``q_i.k_i / (|q_i| |k_i|)``, [B] in full precision.

    Raises:
        ValueError: the shapes differ.
    """
    if q.shape != k.shape:
        raise ValueError(f"shapes are {list(q.shape)} and {list(k.shape)}: give equal ones")
    with autocast_off(q):
        return (F.normalize(upcast(q), dim=-1) * F.normalize(upcast(k), dim=-1)).sum(-1)
