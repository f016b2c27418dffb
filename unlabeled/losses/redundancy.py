"""Redundancy-reduction losses: decorrelate the dimensions of an embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from unlabeled.ops.gather import all_sum, gather, world_size
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
    samples than dimensions, ``sum_ij C_ij^2 = <n1 n1^T, n2 n2^T> / B^2`` saves the D x D matrix:
    cost B^2 D in place of B D^2.

    Raises:
        ValueError: the views' shapes differ, or the batch of all ranks has fewer than two samples.
    """
    if z1.shape != z2.shape:
        raise ValueError(f"shapes are {list(z1.shape)} and {list(z2.shape)}: give equal ones")
    with autocast_off(z1):
        batch = len(z1) * world_size()
        one, two = (_standardized(upcast(z), eps=eps) for z in (z1, z2))
        diagonal = all_sum((one * two).sum(0)) / batch
        if batch < one.shape[1]:
            squares = _GramProduct.apply(one, two) / batch**2
        else:
            squares = (all_sum(one.T @ two) / batch).square().sum()
        redundancy = squares - diagonal.square().sum()
        return (1 - diagonal).square().sum() + lambd * redundancy


def vicreg(
    z1: Float[Tensor, "B D"],
    z2: Float[Tensor, "B D"],
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    eps: float = 1e-4,
) -> Float[Tensor, ""]:
    """Keep two views alike, their dimensions spread out, and different from each other.

    ``invariance s + variance (v(z1) + v(z2)) + covariance (c(z1) + c(z2))`` (VICReg,
    arXiv:2105.04906, eq. 6) with s the mean of ``(z1 - z2)^2`` over samples and dimensions, as
    in the official code (eq. 5 takes the sum over dimensions), v half of `variance_hinge`, as
    there too (eq. 1 has no half), and c `covariance_penalty`.

    Raises:
        ValueError: the views' shapes differ, or the batch of all ranks has fewer than two samples.
    """
    if z1.shape != z2.shape:
        raise ValueError(f"shapes are {list(z1.shape)} and {list(z2.shape)}: give equal ones")
    with autocast_off(z1):
        views = [upcast(z1), upcast(z2)]
        total = invariance * (views[0] - views[1]).square().mean()
        for z in views:
            total = total + variance / 2 * variance_hinge(z, eps=eps)
            total = total + covariance * covariance_penalty(z)
        return total


def variance_hinge(
    z: Float[Tensor, "B D"], *, target: float = 1.0, eps: float = 1e-4
) -> Float[Tensor, ""]:
    """Return ``mean_j max(0, target - sqrt(Var(z_j) + eps))`` (VICReg, arXiv:2105.04906, eq. 1-2).

    Var over the batch of all ranks, unbiased.

    Raises:
        ValueError: the batch of all ranks has fewer than two samples.
    """
    with autocast_off(z):
        _, squares = _centered(upcast(z))
        samples = len(z) * world_size()
        return F.relu(target - (squares / (samples - 1) + eps).sqrt()).mean()


def covariance_penalty(z: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Return ``1/D sum_{i != j} Cov(z)_ij^2`` (VICReg, arXiv:2105.04906, eq. 3-4).

    Cov over the batch of all ranks, unbiased. With fewer samples than dimensions,
    ``sum_ij Cov_ij^2 = |z z^T|^2 / (B - 1)^2`` of the centered z saves the D x D matrix: cost
    B^2 D in place of B D^2.

    Raises:
        ValueError: the batch of all ranks has fewer than two samples.
    """
    with autocast_off(z):
        z, squares = _centered(upcast(z))
        samples, dim = len(z) * world_size(), z.shape[1]
        few = samples < dim
        total = _GramProduct.apply(z, z) if few else all_sum(z.T @ z).square().sum()
        return (total - squares.square().sum()) / (samples - 1) ** 2 / dim


def _centered(z: Tensor) -> tuple[Tensor, Tensor]:
    """Rows less the mean over all ranks, and the sums of their squares over all ranks."""
    samples = len(z) * world_size()
    if samples < 2:
        raise ValueError(f"the batch has {samples} sample: a variance needs at least 2")
    z = z - all_sum(z.sum(0)) / samples
    return z, all_sum(z.square().sum(0))


def _standardized(z: Tensor, *, eps: float) -> Tensor:
    """Zero mean and unit (biased) variance over the batch of all ranks."""
    centered, squares = _centered(z)
    return centered * (squares / (len(z) * world_size()) + eps).rsqrt()


class _GramProduct(torch.autograd.Function):
    """``<x x^T, y y^T>`` of the rows of all ranks, |y^T x|^2 without the D x D matrix.

    Each rank makes its own rows of the two Gram matrices, which are symmetric: the gradient with
    respect to x is ``2 y y^T x``, one product where autograd would take two.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        all_x = gather(x)
        all_y = all_x if y is x else gather(y)
        gram_x = x @ all_x.T
        gram_y = gram_x if y is x else y @ all_y.T
        ctx.save_for_backward(all_x, all_y, gram_x, gram_y)
        ctx.same = y is x
        return all_sum((gram_x * gram_y).sum())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        all_x, all_y, gram_x, gram_y = ctx.saved_tensors
        scale = 2 * all_sum(grad)
        if ctx.same:
            return (gram_x @ all_x).mul_(2 * scale), None
        return (gram_y @ all_x).mul_(scale), (gram_x @ all_y).mul_(scale)
