"""How unlike two images are, pixel by pixel, and how rough a flow is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.ops.gather import all_sum, world_size
from unlabeled.ops.precision import upcast

if TYPE_CHECKING:
    from jaxtyping import Float

GRAY = (0.2989, 0.5870, 0.1140)


def masked_mean(value: Float[Tensor, "B C H W"], mask: Float[Tensor, "B 1 H W"]) -> Tensor:
    """Mean of the map over the mean of the mask of all ranks; the map is 0 where the mask is."""
    share = all_sum(mask.mean().detach()) / world_size()
    return value.mean() / share.clamp_min(1e-7)


def l1_distance(x: Tensor, y: Tensor) -> Float[Tensor, "B C H W"]:
    """``|x - y|``."""
    return (upcast(x) - upcast(y)).abs()


def ssim_distance(x: Float[Tensor, "B C H W"], y: Tensor) -> Float[Tensor, "B C h w"]:
    """``(1 - SSIM) / 2`` in [0, 1] over windows of 3 x 3, without a border (Wang et al. 2004)."""
    x, y = upcast(x), upcast(y)
    mean_x, mean_y = F.avg_pool2d(x, 3, 1), F.avg_pool2d(y, 3, 1)
    var_x = F.avg_pool2d(x.square(), 3, 1) - mean_x.square()
    var_y = F.avg_pool2d(y.square(), 3, 1) - mean_y.square()
    both = F.avg_pool2d(x * y, 3, 1) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_x * mean_y + c1) * (2 * both + c2)
    bottom = (mean_x.square() + mean_y.square() + c1) * (var_x + var_y + c2)
    return ((1 - top / bottom) / 2).clamp(0, 1)


def census_distance(
    x: Float[Tensor, "B 3 H W"], y: Float[Tensor, "B 3 H W"], *, radius: int = 1
) -> Float[Tensor, "B 1 H W"]:
    """Soft Hamming distance of ternary census transforms (UnFlow, arXiv:1711.07837, eq. 3).

    Of gray images on the scale of 255: ``t = d / sqrt(0.81 + d^2)`` of the differences d to each
    neighbor, and the mean of ``(t_x - t_y)^2 / (0.1 + (t_x - t_y)^2)``; 0 at the border of
    ``radius`` px.
    """
    one, other = _census(upcast(x), radius), _census(upcast(y), radius)
    apart = (one - other).square()
    distance = (apart / (0.1 + apart)).mean(1, keepdim=True)
    inside = torch.zeros_like(distance)
    inside[:, :, radius:-radius, radius:-radius] = 1
    return distance * inside


def _census(image: Tensor, radius: int) -> Tensor:
    gray = (image * image.new_tensor(GRAY)[:, None, None]).sum(1, keepdim=True) * 255
    side = 2 * radius + 1
    near = F.unfold(gray, side, padding=radius).view(-1, side * side, *gray.shape[2:])
    apart = near - gray
    return apart / (0.81 + apart.square()).sqrt()


def roughness(
    flow: Float[Tensor, "B 2 H W"],
    image: Float[Tensor, "B C H W"],
    *,
    order: int = 1,
    edge: float = 10.0,
) -> Tensor:
    """A quarter of ``mean(e^(-edge |dI|) |d^order f|)``, summed over both axes.

    Args:
        flow: divided by the shorter side of the image by the caller.
        image: in [0, 1]; its edges may break the flow. ``|dI|`` is the mean over the channels.
        order: of the derivative of the flow, 1 or 2.
        edge: how little an edge weighs.
    """
    if order not in (1, 2):
        raise ValueError(f"order is {order}: give 1 or 2")
    flow, total = upcast(flow), upcast(flow).new_zeros(())
    for axis in (2, 3):
        weight = (-edge * upcast(image).diff(dim=axis).abs().mean(1, keepdim=True)).exp()
        change = flow.diff(n=order, dim=axis)
        if order == 2:
            weight = weight.narrow(axis, 1, weight.shape[axis] - 1)
        total = total + (weight * change.abs()).mean()
    return total / 4
