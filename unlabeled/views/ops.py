"""Photometric operations on batches of images, each sample with its own parameter.

All take float32 images [N, C, H, W] in [0, 1], return new tensors in [0, 1], and equal
torchvision's function of the same name for the same parameters. Three channels are RGB. Every
step is one elementwise kernel with one rounding, or a product of one sample's matrices, so that a
sample's result does not depend on the batch that it is in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from jaxtyping import Float

RED, GREEN, BLUE = 0.2989, 0.587, 0.114  # ITU-R BT.601 luma, with torchvision's digits
_BLOCK = 32  # pixels of a row that are blurred together


def grayscale(images: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N 1 H W"]:
    """Luma of RGB images: 0.2989 R + 0.587 G + 0.114 B."""
    red, green, blue = images.split(1, dim=1)
    return (red * RED).add_(green * GREEN).add_(blue * BLUE)


def adjust_brightness(
    images: Float[Tensor, "N C H W"], factor: Float[Tensor, " N"]
) -> Float[Tensor, "N C H W"]:
    """Scale all values: clip(f x)."""
    return (images * factor[:, None, None, None]).clamp_(0, 1)


def adjust_contrast(
    images: Float[Tensor, "N C H W"], factor: Float[Tensor, " N"]
) -> Float[Tensor, "N C H W"]:
    """Move values from their mean m: clip(f x + (1 - f) m).

    m is the mean luma of RGB images, and the mean over all channels of others.
    """
    light = grayscale(images) if images.shape[1] == 3 else images
    # rows first: a sum over one whole sample would be split between threads if it came alone
    mean = light.mean(3).flatten(1).mean(1)
    offset = (1 - factor) * mean
    scaled = images * factor[:, None, None, None]
    return scaled.add_(offset[:, None, None, None]).clamp_(0, 1)


def adjust_saturation(
    images: Float[Tensor, "N 3 H W"], factor: Float[Tensor, " N"]
) -> Float[Tensor, "N 3 H W"]:
    """Move colors from their luma y: clip(f x + (1 - f) y)."""
    factor = factor[:, None, None, None]
    return (images * factor).add_(grayscale(images).mul_(1 - factor)).clamp_(0, 1)


def adjust_hue(
    images: Float[Tensor, "N 3 H W"], shift: Float[Tensor, " N"]
) -> Float[Tensor, "N 3 H W"]:
    """Turn the hue angle of the HSV hexagon by ``shift`` turns, in [-0.5, 0.5].

    With V the largest channel, chroma D = V - min and hue h in sixths of a turn, each channel is
    V - D t(h) with a trapezoid t of its own: clip(2 - |h - 3|) for red, clip(|h - 2| - 1) for
    green, clip(|h - 4| - 1) for blue, all clipped to [0, 1].
    """
    red, green, blue = images.unbind(1)
    top = torch.maximum(torch.maximum(red, green), blue)
    chroma = top - torch.minimum(torch.minimum(red, green), blue)
    safe = chroma.clamp_min(1e-12)  # gray pixels have no hue and, with D = 0, need none
    hue = torch.where(
        red == top,
        (green - blue).div_(safe),
        torch.where(
            green == top,
            (blue - red).div_(safe).add_(2),
            (red - green).div_(safe).add_(4),
        ),
    )
    hue.add_((shift * 6)[:, None, None])
    hue.sub_((hue * (1 / 6)).floor_().mul_(6))
    result = torch.empty_like(images)
    trapezoids = (
        (hue - 3).abs_().neg_().add_(2),
        (hue - 2).abs_().sub_(1),
        (hue - 4).abs_().sub_(1),
    )
    for channel, trapezoid in zip(result.unbind(1), trapezoids, strict=True):
        torch.sub(top, trapezoid.clamp_(0, 1).mul_(chroma), out=channel)
    return result


def solarize(images: Float[Tensor, "N C H W"], *, threshold: float) -> Float[Tensor, "N C H W"]:
    """Invert the values that are at least ``threshold``: 1 - x."""
    return torch.where(images >= threshold, 1 - images, images)


def gaussian_blur(
    images: Float[Tensor, "N C H W"], sigma: Float[Tensor, " N"], *, radius: int
) -> Float[Tensor, "N C H W"]:
    """Blur with a Gaussian of ``sigma`` pixels, cut at ``radius`` taps a side, edges mirrored.

    The kernel is separable: rows first, then columns.

    Raises:
        ValueError: the radius does not fit into the image.
    """
    height, width = images.shape[-2:]
    if not 0 < radius < min(height, width):
        raise ValueError(f"radius is {radius}, image {height} x {width}: it must be smaller")
    taps = torch.arange(-radius, radius + 1, device=images.device)
    # in float64: float32's exp rounds differently in the vector loop and in its tail
    weights = (-0.5 * (taps / sigma.double()[:, None]) ** 2).exp_()
    weights = (weights / weights.sum(1, keepdim=True)).to(images.dtype)
    rows = _blur_rows(images, weights)
    return _blur_rows(rows.transpose(2, 3), weights).transpose(2, 3)


def _blur_rows(images: Tensor, weights: Tensor) -> Tensor:
    """Filter along the last axis: each block of pixels, with its margins, times a band matrix.

    Blocks make the product about linear in the width, and products are faster than convolutions
    with a kernel a sample.
    """
    count, channels, height, width = images.shape
    taps = weights.shape[1]
    margin = taps // 2
    blocks = -(-width // _BLOCK)
    padded = functional.pad(images, (margin, margin, 0, 0), mode="reflect")
    padded = functional.pad(padded, (0, blocks * _BLOCK - width))
    windows = padded.unfold(3, _BLOCK + 2 * margin, _BLOCK).reshape(count, -1, _BLOCK + 2 * margin)
    place = torch.arange(_BLOCK, device=images.device)[:, None]
    place = (place + torch.arange(taps, device=images.device)).expand(count, -1, -1)
    band = weights.new_zeros(count, _BLOCK, _BLOCK + 2 * margin)
    band.scatter_(2, place, weights[:, None].expand(-1, _BLOCK, -1))
    with torch.autocast(images.device.type, enabled=False):
        blurred = torch.bmm(windows, band.transpose(1, 2))
    return blurred.view(count, channels, height, blocks * _BLOCK)[..., :width]
