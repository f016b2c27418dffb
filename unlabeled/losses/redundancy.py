"""Redundancy-reduction losses: decorrelate the dimensions of an embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unlabeled.ops.gather import all_sum, world_size
from unlabeled.ops.precision import autocast_off, upcast

if TYPE_CHECKING:
    from jaxtyping import Float


def barlow_twins(
    z1: Float[Tensor, "B D"], z2: Float[Tensor, "B D"], *, lambd: float = 0.0051, eps: float = 1e-5
) -> Float[Tensor, ""]:
    """Make the cross-correlation of two views the identity.

    ``sum_i (1 - C_ii)^2 + lambd sum_{i != j} C_ij^2`` with ``C = n1^T n2 / B`` and
    ``n = (z - mean) / sqrt(var + eps)`` over the batch of all ranks, var biased (Barlow Twins,
    arXiv:2103.03230, eq. 1-2; lambd 0.0051 is the official code's, 0.005 the paper's). With fewer
    samples than dimensions on one rank, ``sum_ij C_ij^2 = <n1 n1^T, n2 n2^T> / B^2`` saves the
    D x D matrix: cost B^2 D in place of B D^2.

    Raises:
        ValueError: the views' shapes differ.
    """
    if z1.shape != z2.shape:
        raise ValueError(f"shapes are {list(z1.shape)} and {list(z2.shape)}: give equal ones")
    with autocast_off(z1):
        views = torch.stack([upcast(z1), upcast(z2)])
        batch = views.shape[1] * world_size()
        centered = views - all_sum(views.sum(1, keepdim=True)) / batch
        variance = all_sum(centered.square().sum(1, keepdim=True)) / batch
        one, two = (centered * (variance + eps).rsqrt()).unbind()
        if world_size() == 1 and batch < one.shape[1]:
            diagonal = (one * two).sum(0) / batch
            squares = ((one @ one.T) * (two @ two.T)).sum() / batch**2
        else:
            correlation = all_sum(one.T @ two) / batch
            diagonal = correlation.diagonal()
            squares = correlation.square().sum()
        redundancy = squares - diagonal.square().sum()
        return (1 - diagonal).square().sum() + lambd * redundancy
