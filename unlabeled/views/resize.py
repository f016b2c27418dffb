"""Random crops and their antialiased resize, each sample with its own box."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

Images = Tensor | Sequence[Tensor]
"""[B, C, H, W], or B tensors [C, H_i, W_i]; uint8, or float32 in [0, 1]."""

TRIES = 10
BOX_NUMBERS = 2 * TRIES + 2
"""How many uniform numbers a sample `draw_boxes` uses."""

_SMALL = 64 * 64  # up to this many pixels, matrices are faster on CPU than a call a sample
_LARGE = 2**22  # crops of more pixels than this are thinned before they become float


def sides(images: Images, device: torch.device) -> Float[Tensor, "B 2"]:
    """Height and width of each image in pixels, float64."""
    if isinstance(images, Tensor):
        side = torch.tensor(images.shape[-2:], dtype=torch.float64, device=device)
        return side.expand(len(images), 2)
    shapes = [tuple(image.shape[-2:]) for image in images]
    return torch.tensor(shapes, dtype=torch.float64, device=device)


def draw_boxes(
    size: Float[Tensor, "B 2"],
    numbers: Float[Tensor, "B 22"],
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Float[Tensor, "B 4"]:
    """Boxes (top, left, height, width) in whole pixels, as torchvision's RandomResizedCrop.

    Area share U(scale), aspect width / height log-uniform in ``ratio``; the first of ten tries
    that fits, else the largest centered box whose aspect lies in ``ratio``.

    Args:
        size: heights and widths of the images.
        numbers: uniform in [0, 1).
        scale: bounds of the share of the image's area.
        ratio: bounds of the aspect.
    """
    numbers = numbers.double()
    height, width = size[:, :1], size[:, 1:]
    area = height * width * (scale[0] + (scale[1] - scale[0]) * numbers[:, :TRIES])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = (low + (high - low) * numbers[:, TRIES : 2 * TRIES]).exp()
    tall, wide = (area / aspect).sqrt().round(), (area * aspect).sqrt().round()
    fits = (tall > 0) & (tall <= height) & (wide > 0) & (wide <= width)
    first = fits.int().argmax(1, keepdim=True)
    found = fits.any(1, keepdim=True)
    tallest = torch.minimum(height, (width / ratio[0]).round().clamp(min=1))
    widest = torch.minimum(width, (height * ratio[1]).round().clamp(min=1))
    tall = torch.where(found, tall.gather(1, first), tallest)
    wide = torch.where(found, wide.gather(1, first), widest)
    room = torch.cat([height - tall, width - wide], 1)
    corner = torch.where(found, (numbers[:, 2 * TRIES :] * (room + 1)).floor(), (room / 2).floor())
    return torch.cat([corner, tall, wide], 1).float()


def crop_resize(
    images: Images,
    box: Float[Tensor, "B 4"],
    flip: Bool[Tensor, " B"],
    *,
    size: int,
    interpolation: str,
) -> Float[Tensor, "B C S S"]:
    """Cut the boxes out, resize them to ``size`` with antialiasing, mirror where ``flip``.

    Each output pixel is the mean of the crop's pixels under a filter that is as wide as the
    downscaling asks (Pillow's and torchvision's antialias=True): a triangle for "bilinear",
    Keys' cubic with a = -0.5 for "bicubic", whose overshoot is clipped. Returns float32 in [0, 1].

    A batch of small images, or any on a GPU, is W_y x W_x^T with a pair of matrices a sample.
    Large or ragged ones go through torch's own resize one by one, on a view of the crop, so that
    neither memory nor time is spent on what was cut away; crops of more than 4 million pixels are
    first thinned by whole strides, to no less than four pixels for one of the result. The way
    depends on an image's shape and container and not on its batch; both agree to 1e-5.
    """
    if isinstance(images, Tensor) and (
        images.device.type != "cpu" or images.shape[-2] * images.shape[-1] <= _SMALL
    ):
        result = _by_matrices(images, box, flip, size=size, interpolation=interpolation)
    else:
        result = _one_by_one(images, box, flip, size=size, interpolation=interpolation)
    return result.clamp_(0, 1) if interpolation == "bicubic" else result


def _by_matrices(
    images: Tensor, box: Tensor, flip: Tensor, *, size: int, interpolation: str
) -> Tensor:
    count, channels, height, width = images.shape
    reach = 2 if interpolation == "bicubic" else 1
    top, left, tall, wide = box.double().unbind(1)
    still = torch.zeros_like(flip)
    down = _weights(top, tall, side=height, size=size, reach=reach, flip=still)
    across = _weights(left, wide, side=width, size=size, reach=reach, flip=flip)
    if images.dtype == torch.uint8:
        down.mul_(1 / 255)
    with torch.autocast(images.device.type, enabled=False):
        rows = images.float().reshape(count, channels * height, width)
        rows = torch.bmm(rows, across.transpose(1, 2))
        return torch.matmul(down[:, None], rows.view(count, channels, height, size))


def _weights(
    start: Tensor, length: Tensor, *, side: int, size: int, reach: int, flip: Tensor
) -> Tensor:
    """[B, size, side]: the normalized filter of each output pixel over the side's pixels."""
    step = (length / size)[:, None, None]
    support = step.clamp(min=1) * reach
    # the number of taps follows from the shapes alone, so that a batch cannot change a sample
    taps = 2 * math.ceil(reach * max(1.0, side / size)) + 1
    output = torch.arange(size, dtype=torch.float64, device=start.device) + 0.5
    output = torch.where(flip[:, None], size - output, output)
    center = output[:, :, None] * step
    first = (center - support + 0.5).floor()
    place = first + torch.arange(taps, device=start.device)
    weight = _kernel((place + 0.5 - center).mul_(reach).div_(support), reach)
    last = length[:, None, None] - 1
    weight.mul_((place >= 0) & (place <= last))
    weight.div_(weight.sum(2, keepdim=True))
    place = torch.minimum(place.clamp_(min=0), last).add_(start[:, None, None]).long()
    dense = torch.zeros(len(start), size, side, device=start.device)
    return dense.scatter_add_(2, place, weight.float())


def _kernel(distance: Tensor, reach: int) -> Tensor:
    away = distance.abs_()
    if reach == 1:
        return (1 - away).clamp_(min=0)
    near = (1.5 * away - 2.5) * away * away + 1
    away.clamp_(max=2)  # where the outer branch ends in zero
    far = ((-0.5 * away + 2.5) * away - 4) * away + 2
    return torch.where(away < 1, near, far)


def _one_by_one(
    images: Images, box: Tensor, flip: Tensor, *, size: int, interpolation: str
) -> Tensor:
    result = torch.empty(len(images), images[0].shape[0], size, size, device=images[0].device)
    boxes, flips = box.long().tolist(), flip.tolist()
    for view, image, (top, left, tall, wide), mirror in zip(
        result, images, boxes, flips, strict=True
    ):
        crop = _thinned(image[:, top : top + tall, left : left + wide], size)
        resized = crop  # of the size already: the filter would give it back
        if crop.shape[-2:] != (size, size):
            resized = functional.interpolate(
                crop[None].float(), size=(size, size), mode=interpolation, antialias=True
            )[0]
        view.copy_(resized.flip(2) if mirror else resized)
        if image.dtype == torch.uint8:
            view.mul_(1 / 255)
    return result


def _thinned(crop: Tensor, size: int) -> Tensor:
    tall, wide = crop.shape[-2:]
    if tall * wide <= _LARGE:
        return crop
    down, across = max(1, tall // (4 * size)), max(1, wide // (4 * size))
    return crop[:, down // 2 :: down, across // 2 :: across]
