"""Warping by flow, and what flow says of occlusion. Flow is in px, (right, down)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def pixel_places(like: Float[Tensor, "*B H W"]) -> Float[Tensor, "2 H W"]:
    """The column and the row of each pixel of ``like``, on its device and in its type."""
    height, width = like.shape[-2:]
    v, u = torch.meshgrid(
        torch.arange(height, device=like.device, dtype=like.dtype),
        torch.arange(width, device=like.device, dtype=like.dtype),
        indexing="ij",
    )
    return torch.stack([u, v])


def sample_at(
    x: Float[Tensor, "B C H W"], place: Float[Tensor, "B 2 h w"], *, padding: str = "border"
) -> Float[Tensor, "B C h w"]:
    """Read ``x`` at places in px, bilinearly; outside as ``padding`` says (border, zeros)."""
    size = torch.tensor([x.shape[3] - 1, x.shape[2] - 1], device=x.device, dtype=place.dtype)
    grid = 2 * place / size.clamp_min(1)[:, None, None] - 1
    return F.grid_sample(
        x, grid.permute(0, 2, 3, 1).to(x.dtype), padding_mode=padding, align_corners=True
    )


def warp(
    x: Float[Tensor, "B C H W"], flow: Float[Tensor, "B 2 H W"], *, padding: str = "border"
) -> Float[Tensor, "B C H W"]:
    """``out(p) = x(p + flow(p))``: the second frame as the first one sees it."""
    return sample_at(x, pixel_places(flow) + flow, padding=padding)


def inconsistent(
    forward: Float[Tensor, "B 2 H W"],
    backward: Float[Tensor, "B 2 H W"],
    *,
    relative: float = 0.01,
    absolute: float = 0.5,
) -> Float[Tensor, "B 1 H W"]:
    """1 where flow there and back does not return (UnFlow, arXiv:1711.07837, section 3.2).

    ``|f + b(p + f)|^2 > relative (|f|^2 + |b|^2) + absolute``.
    """
    back = warp(backward, forward, padding="zeros")
    off = (forward + back).square().sum(1, keepdim=True)
    size = (forward.square() + back.square()).sum(1, keepdim=True)
    return (off > relative * size + absolute).to(forward.dtype)


def splatted(flow: Float[Tensor, "B 2 H W"]) -> Float[Tensor, "B 1 H W"]:
    """How much of the other frame's pixels lands on each pixel, each spread over four."""
    batch, _, height, width = flow.shape
    place = (pixel_places(flow) + flow).flatten(2)
    corner = place.floor()
    part = place - corner
    landed = flow.new_zeros(batch, height * width)
    for right in (0, 1):
        for down in (0, 1):
            x, y = corner[:, 0] + right, corner[:, 1] + down
            weight = (part[:, 0] if right else 1 - part[:, 0]) * (
                part[:, 1] if down else 1 - part[:, 1]
            )
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            index = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).long()
            landed.scatter_add_(1, index, weight * inside)
    return landed.view(batch, 1, height, width)


def uncovered(
    backward: Float[Tensor, "B 2 H W"], *, least: float = 0.2
) -> Float[Tensor, "B 1 H W"]:
    """1 where nothing of the second frame lands in the first (Wang et al. 2018, section 3.1)."""
    return (splatted(backward) < least).to(backward.dtype)


# Affine maps [B, 2, 3] of places in px -----------------------------------------------------------


def transform(theta: Float[Tensor, "B 2 3"], place: Float[Tensor, "B 2 H W"]) -> Tensor:
    """[B, 2, H, W]: ``theta (u, v, 1)``."""
    moved = theta[:, :, :2] @ place.flatten(2) + theta[:, :, 2:]
    return moved.view_as(place)


def invert(theta: Float[Tensor, "B 2 3"]) -> Float[Tensor, "B 2 3"]:
    """The map back."""
    turned = torch.linalg.inv(theta[:, :, :2])
    return torch.cat([turned, -turned @ theta[:, :, 2:]], 2)


def compose(outer: Float[Tensor, "B 2 3"], inner: Float[Tensor, "B 2 3"]) -> Tensor:
    """[B, 2, 3]: first ``inner``, then ``outer``."""
    turned = outer[:, :, :2] @ inner
    return torch.cat([turned[:, :, :2], turned[:, :, 2:] + outer[:, :, 2:]], 2)


def transformed_flow(
    flow: Float[Tensor, "B 2 H W"], first: Float[Tensor, "B 2 3"], second: Float[Tensor, "B 2 3"]
) -> Float[Tensor, "B 2 H W"]:
    """The flow between frames that were transformed: ``t2^-1(t1(x) + f(t1(x))) - x``.

    Args:
        flow: between the frames as they were.
        first: from places in the new first frame to those in the old one.
        second: the same for the second frame.
    """
    places = pixel_places(flow).expand_as(flow)
    old = transform(first, places)
    return transform(invert(second), old + sample_at(flow, old)) - places
