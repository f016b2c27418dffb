"""The operations of AutoAugment's list, each sample with its own level (2009.07724, appendix).

All take float32 images [N, C, H, W] in [0, 1] and levels [N] in [0, 1], which say how far each
operation is between the ends of its range, and return new tensors in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.views.ops import adjust_brightness, adjust_contrast, adjust_saturation

if TYPE_CHECKING:
    from jaxtyping import Float

LEVELS = 256


class Operation(NamedTuple):
    """What it does to (images, magnitudes), the ends of its range, whether its sign is a coin."""

    apply: Callable[[Tensor, Tensor], Tensor]
    low: float
    high: float
    signed: bool = False
    colored: bool = False

    def magnitude(self, level: Float[Tensor, " N"], sign: Float[Tensor, " N"]) -> Tensor:
        """The magnitude that a level in [0, 1] means; ``sign`` is 1 or -1."""
        value = self.low + (self.high - self.low) * level
        return value * sign if self.signed else value


def _affine(images: Tensor, rows: Tensor) -> Tensor:
    """Read each image off at ``A (x, y, 1)``, in units of half its sides; gray comes in."""
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    return F.grid_sample(images - 0.5, grid, align_corners=False) + 0.5


def _rows(size: Tensor) -> Tensor:
    rows = size.new_zeros(len(size), 2, 3)
    rows[:, 0, 0] = rows[:, 1, 1] = 1
    return rows


def shear_x(images: Float[Tensor, "N C H W"], size: Float[Tensor, " N"]) -> Tensor:
    """Columns shift with their height."""
    rows = _rows(size)
    rows[:, 0, 1] = size
    return _affine(images, rows)


def shear_y(images: Float[Tensor, "N C H W"], size: Float[Tensor, " N"]) -> Tensor:
    """Rows shift with their place."""
    rows = _rows(size)
    rows[:, 1, 0] = size
    return _affine(images, rows)


def translate_x(images: Float[Tensor, "N C H W"], size: Float[Tensor, " N"]) -> Tensor:
    """Move by a share of the width."""
    rows = _rows(size)
    rows[:, 0, 2] = 2 * size
    return _affine(images, rows)


def translate_y(images: Float[Tensor, "N C H W"], size: Float[Tensor, " N"]) -> Tensor:
    """Move by a share of the height."""
    rows = _rows(size)
    rows[:, 1, 2] = 2 * size
    return _affine(images, rows)


def rotate(images: Float[Tensor, "N C H W"], degrees: Float[Tensor, " N"]) -> Tensor:
    """Turn about the middle."""
    angle = degrees * math.pi / 180
    rows = _rows(degrees)
    ratio = images.shape[2] / images.shape[3]  # the grid's units differ where sides do
    rows[:, 0, 0] = rows[:, 1, 1] = angle.cos()
    rows[:, 0, 1] = -angle.sin() * ratio
    rows[:, 1, 0] = angle.sin() / ratio
    return _affine(images, rows)


def autocontrast(images: Float[Tensor, "N C H W"], size: Float[Tensor, " N"]) -> Tensor:
    """Stretch each channel to [0, 1]; constant ones stay."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    wide = high - low
    return torch.where(wide > 0, (images - low) / wide.clamp_min(1e-8), images)


def invert(images: Float[Tensor, "N C H W"], size: Float[Tensor, " N"]) -> Tensor:
    """``1 - x``."""
    return 1 - images


def equalize(images: Float[Tensor, "N C H W"], size: Float[Tensor, " N"]) -> Tensor:
    """Give each channel a flat histogram of 8-bit levels, as Pillow does."""
    flat = (images.clamp(0, 1) * 255).round().long().flatten(0, 1).flatten(1)  # [N C, H W]
    count = torch.zeros(len(flat), LEVELS, device=images.device)
    count.scatter_add_(1, flat, torch.ones_like(flat, dtype=torch.float32))
    filled = torch.where(count > 0, torch.arange(LEVELS, device=images.device), -1).amax(1)
    last = count.gather(1, filled[:, None])[:, 0]
    step = ((flat.shape[1] - last) / 255).floor()
    below = count.cumsum(1) - count
    table = ((below + (step / 2).floor()[:, None]) / step.clamp_min(1)[:, None]).floor()
    table = table.clamp(0, 255)
    found = table.gather(1, flat) / 255
    kept = (step > 0)[:, None]  # too few pixels to flatten
    return torch.where(kept, found, flat / 255).view(images.shape)


def solarize(images: Float[Tensor, "N C H W"], threshold: Float[Tensor, " N"]) -> Tensor:
    """Invert what is at or above ``threshold`` / 255; 256 inverts nothing."""
    edge = threshold[:, None, None, None] / 255
    return torch.where(images >= edge, 1 - images, images)


def posterize(images: Float[Tensor, "N C H W"], bits: Float[Tensor, " N"]) -> Tensor:
    """Keep the first ``bits`` of eight, rounded down."""
    step = 2.0 ** (8 - bits.floor())[:, None, None, None]
    return ((images * 255).round() / step).floor() * step / 255


def sharpness(images: Float[Tensor, "N C H W"], factor: Float[Tensor, " N"]) -> Tensor:
    """Move values from their smoothed ones: ``clip(f x + (1 - f) s)``; the border stays."""
    kernel = images.new_tensor([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    channels = images.shape[1]
    inside = F.conv2d(images, kernel.expand(channels, 1, 3, 3), groups=channels)
    smooth = images.clone()
    smooth[:, :, 1:-1, 1:-1] = inside
    weight = factor[:, None, None, None]
    return (weight * images + (1 - weight) * smooth).clamp(0, 1)


def cutout(images: Float[Tensor, "N C H W"], share: Float[Tensor, " N"]) -> Tensor:
    """Gray out a square of a share of the side; its middle follows from the image's own pixels."""
    height, width = images.shape[2:]
    # any hash of the image will do: an operation has no random numbers of its own
    seed = images.flatten(1).sum(1)
    top, left = (seed * 997.0).frac(), (seed * 577.0).frac()
    y = (torch.arange(height, device=images.device) + 0.5) / height
    x = (torch.arange(width, device=images.device) + 0.5) / width
    half = share[:, None] / 2
    rows, columns = (y - top[:, None]).abs() < half, (x - left[:, None]).abs() < half
    hole = rows[:, None, :, None] & columns[:, None, None, :]
    return torch.where(hole, 0.5, images)


OPERATIONS: dict[str, Operation] = {
    "shear_x": Operation(shear_x, 0.0, 0.3, signed=True),
    "shear_y": Operation(shear_y, 0.0, 0.3, signed=True),
    "translate_x": Operation(translate_x, 0.0, 0.45, signed=True),
    "translate_y": Operation(translate_y, 0.0, 0.45, signed=True),
    "rotate": Operation(rotate, 0.0, 30.0, signed=True),
    "autocontrast": Operation(autocontrast, 0.0, 1.0),
    "invert": Operation(invert, 0.0, 1.0),
    "equalize": Operation(equalize, 0.0, 1.0),
    "solarize": Operation(solarize, 0.0, 256.0),
    "posterize": Operation(posterize, 4.0, 8.0),
    "contrast": Operation(adjust_contrast, 0.1, 1.9),
    "color": Operation(adjust_saturation, 0.1, 1.9, colored=True),
    "brightness": Operation(adjust_brightness, 0.1, 1.9),
    "sharpness": Operation(sharpness, 0.1, 1.9),
    "cutout": Operation(cutout, 0.0, 0.2),
}
