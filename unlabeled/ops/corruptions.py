"""Common corruptions of images in five severities (Hendrycks and Dietterich 2019).

"Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
arXiv:1903.12261, section 3 and appendix; strengths are in `corruption_strengths`. Left out are
frost, which takes photographs, and glass blur, which exchanges pixels one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.ops.corruption_strengths import (
    BETWEEN,
    LARGE_SIDE,
    SMALL_SIDE,
    STRENGTHS,
)
from unlabeled.ops.jpeg import jpeg
from unlabeled.ops.plasma import plasma
from unlabeled.ops.warp import pixel_places, sample_at, transform

if TYPE_CHECKING:
    from jaxtyping import Float

    from unlabeled.views.generator import SampleGenerator

SEVERITIES = (1, 2, 3, 4, 5)
LUMA = (0.299, 0.587, 0.114)
CORRUPTIONS = tuple(STRENGTHS)
COLORED = ("saturate",)
"""What only images of three channels have."""


def corrupt(
    images: Float[Tensor, "B C H W"],
    name: str,
    *,
    severity: int,
    generator: SampleGenerator,
) -> Float[Tensor, "B C H W"]:
    """Corrupt each image, by random numbers of its own.

    The numbers do not depend on the severity: with the same generator an image has the same noise,
    stronger.

    Args:
        images: float32 in [0, 1]; three channels are RGB.
        name: one of `CORRUPTIONS`.
        severity: 1 to 5.
        generator: of these samples, on the device of the images.

    Returns:
        New images in [0, 1].

    Raises:
        ValueError: an unknown name or severity, sides under 8 px, a generator of other samples,
            or a corruption of colors for images that have none.
    """
    if name not in STRENGTHS:
        raise ValueError(f"no corruption {name!r}: use {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise ValueError(f"severity is {severity}: give 1 to 5")
    side = min(images.shape[2:])
    if side < 8:
        raise ValueError(f"images have a side of {side} px: corruptions need 8")
    if len(generator) != len(images):
        raise ValueError(f"{len(images)} images, and a generator of {len(generator)} samples")
    if name in COLORED and images.shape[1] != 3:
        raise ValueError(f"{name} changes colors, and images have {images.shape[1]} channels")
    large = side >= BETWEEN
    strength = STRENGTHS[name][large][severity - 1]
    scale = side / LARGE_SIDE if large else max(1.0, side / SMALL_SIDE)
    values = strength if isinstance(strength, tuple) else (strength,)
    return _FUNCTIONS[name](images.float(), generator, scale, *values).clamp(0, 1)


# Noise -------------------------------------------------------------------------------------------


def _gaussian_noise(x: Tensor, draw: SampleGenerator, scale: float, std: float) -> Tensor:
    return x + std * draw.normal(*x.shape[1:])


def _shot_noise(x: Tensor, draw: SampleGenerator, scale: float, rate: float) -> Tensor:
    """Photons that arrive, ``Poisson(rate x) / rate``, of 8-bit levels x."""
    level = (255 * x).round().long()
    chance = draw.uniform(*x.shape[1:]).double().clamp_min(2.0**-25)
    table = _poisson(rate).to(x.device)
    # rows one after the other, raised by 1 each, are one ascending list
    rows = table + torch.arange(256, device=x.device)[:, None]
    at = torch.searchsorted(rows.flatten(), level + chance)
    return (at - level * table.shape[1]).clamp_max(table.shape[1] - 1).float() / rate


@lru_cache(maxsize=16)
def _poisson(rate: float) -> Float[Tensor, "256 K"]:
    """``P(k <= K)`` of Poisson's law with mean ``rate`` l / 255, float64."""
    most = int(rate + 8 * math.sqrt(rate) + 16)
    count = torch.arange(1, most + 1, dtype=torch.float64)
    mean = rate * torch.arange(256, dtype=torch.float64) / 255
    return torch.special.gammaincc(*torch.broadcast_tensors(count, mean[:, None]))


def _impulse_noise(x: Tensor, draw: SampleGenerator, scale: float, share: float) -> Tensor:
    """A share of the values becomes 0 or 1, as often."""
    chance = draw.uniform(*x.shape[1:])
    return torch.where(chance < share / 2, 0.0, torch.where(chance >= 1 - share / 2, 1.0, x))


# Blur --------------------------------------------------------------------------------------------


def _defocus_blur(
    x: Tensor, draw: SampleGenerator, scale: float, radius: float, edge: float
) -> Tensor:
    """Convolution with a disk, whose edge is soft."""
    kernel = _disk(radius * scale, edge * scale).to(x)
    margin = kernel.shape[0] // 2
    padded = F.pad(x, (margin,) * 4, mode="reflect")
    channels = x.shape[1]
    return F.conv2d(padded, kernel.expand(channels, 1, -1, -1).contiguous(), groups=channels)


@lru_cache(maxsize=32)
def _disk(radius: float, edge: float) -> Tensor:
    """[K, K]: what share of each pixel a disk covers, then a Gaussian; the sum is 1."""
    margin, fine = math.ceil(radius + 0.5) + math.ceil(2 * edge), 9
    place = (torch.arange(fine * (2 * margin + 1)) + 0.5) / fine - (margin + 0.5)
    inside = (place[:, None].square() + place.square() <= radius**2).double()
    covered = F.avg_pool2d(inside[None], fine)[0]
    smooth = _smoothing(len(covered), edge)
    soft = smooth @ covered @ smooth.T
    return (soft / soft.sum()).float()


def _motion_blur(
    x: Tensor, draw: SampleGenerator, scale: float, radius: float, std: float
) -> Tensor:
    angle = draw.uniform(low=-45.0, high=45.0)
    return _moved(x, angle, radius=radius * scale, std=std * scale)


def _moved(x: Tensor, angle: Tensor, *, radius: float, std: float) -> Tensor:
    """Each image drawn along its angle (degrees), fading: ``exp(-i^2 / (2 std^2))``, i px on."""
    taps = torch.arange(1 + math.ceil(min(2 * radius, 3 * std)), device=x.device)
    weight = torch.exp(-(taps / std).square() / 2)
    radians = torch.deg2rad(angle)
    way = torch.stack([radians.cos(), radians.sin()], 1)[:, :, None, None]
    places = pixel_places(x)
    total = torch.zeros_like(x)
    for tap, share in zip(taps, weight / weight.sum(), strict=True):
        total += share * sample_at(x, places + tap * way, padding="reflection")
    return total


def _zoom_blur(x: Tensor, draw: SampleGenerator, scale: float, top: float, step: float) -> Tensor:
    """Mean of the image and of those that come nearer."""
    factors = [1 + step * place for place in range(round((top - 1) / step) + 1)]
    return torch.stack([x, *(_zoomed(x, factor) for factor in factors)]).mean(0)


def _zoomed(x: Tensor, factor: float) -> Tensor:
    middle = torch.tensor([x.shape[3] - 1, x.shape[2] - 1], device=x.device)[:, None, None] / 2
    places = (pixel_places(x) - middle) / factor + middle
    return sample_at(x, places.expand(len(x), -1, -1, -1))


# Weather -----------------------------------------------------------------------------------------


def _fog(x: Tensor, draw: SampleGenerator, scale: float, thick: float, decay: float) -> Tensor:
    height, width = x.shape[2:]
    side = 2 ** math.ceil(math.log2(max(height, width)))
    clouds = plasma(draw, side=side, decay=decay)[:, None, :height, :width]
    most = x.amax((1, 2, 3), keepdim=True)
    return (x + thick * clouds) * most / (most + thick)


def _snow(
    x: Tensor,
    draw: SampleGenerator,
    scale: float,
    mean: float,
    std: float,
    size: float,
    threshold: float,
    radius: float,
    fade: float,
    share: float,
) -> Tensor:
    """Flakes that fall, in two layers, over an image that is whiter."""
    noise = mean + std * draw.normal(1, *x.shape[2:])
    flakes = _zoomed(noise, max(1.0, size * scale))
    flakes = torch.where(flakes < threshold, 0.0, flakes).clamp(0, 1)
    angle = draw.uniform(low=-135.0, high=-45.0)
    falling = _moved(flakes, angle, radius=radius * scale, std=fade * scale)
    gray = torch.einsum("c,bchw->bhw", x.new_tensor(LUMA), x)[:, None] if x.shape[1] == 3 else x
    white = torch.maximum(x, 1.5 * gray + 0.5)
    return share * x + (1 - share) * white + falling + falling.flip((2, 3))


# Light and color ---------------------------------------------------------------------------------


def _brightness(x: Tensor, draw: SampleGenerator, scale: float, more: float) -> Tensor:
    """The value of HSV, ``V = max(R, G, B)``, grows; hue and saturation stay."""
    value = x.amax(1, keepdim=True)
    new = (value + more).clamp(0, 1)
    return torch.where(value > 0, x * (new / value.clamp_min(1e-8)), new)


def _contrast(x: Tensor, draw: SampleGenerator, scale: float, factor: float) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) * factor + mean


def _saturate(x: Tensor, draw: SampleGenerator, scale: float, factor: float, more: float) -> Tensor:
    """The saturation of HSV, ``S = 1 - min / V``, grows; grays, which have no hue, stay."""
    value, least = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    old = 1 - least / value.clamp_min(1e-8)
    new = (factor * old + more).clamp(0, 1)
    return torch.where(value > least, value - (value - x) * (new / old.clamp_min(1e-8)), x)


# Shape and resolution ----------------------------------------------------------------------------


def _elastic(
    x: Tensor, draw: SampleGenerator, scale: float, size: float, smooth: float, shift: float
) -> Tensor:
    """A random affine map and smooth random displacements, read off at once."""
    height, width = x.shape[2:]
    side = min(height, width)
    low, high = side // 2 - side // 3, side // 2 + side // 3
    corners = x.new_tensor([[high, high, low], [high, low, low]])
    moved = corners + draw.uniform(2, 3, low=-shift * side, high=shift * side)
    theta = moved @ torch.linalg.inv(torch.cat([corners, torch.ones_like(corners[:1])]))
    places = pixel_places(x).expand(len(x), -1, -1, -1)
    if size > 0:
        rough = draw.uniform(2, height, width, low=-1.0, high=1.0)
        rows, columns = (_smoothing(each, smooth * side).to(x) for each in (height, width))
        places = places + size * side * (rows @ rough @ columns.T)
    return sample_at(x, transform(theta, places), padding="reflection")


@lru_cache(maxsize=32)
def _smoothing(count: int, std: float) -> Float[Tensor, "N N"]:
    """A Gaussian over places that are mirrored at both ends, up to three deviations; float64."""
    reach = math.ceil(3 * std)
    offset = torch.arange(-reach, reach + 1)
    weight = torch.exp(-(offset.double() / max(std, 1e-8)).square() / 2)
    place = (torch.arange(count)[:, None] + offset) % (2 * count)
    place = torch.where(place < count, place, 2 * count - 1 - place)
    rows = torch.zeros(count, count, dtype=torch.float64)
    return rows.scatter_add_(1, place, (weight / weight.sum()).expand(count, -1))


def _pixelate(x: Tensor, draw: SampleGenerator, scale: float, share: float) -> Tensor:
    """Fewer and larger pixels, each the mean of what it covers."""
    parts = [max(1, int(each * share / max(1.0, scale))) for each in x.shape[2:]]
    rows, columns = (
        _covering(each, part).to(x) for each, part in zip(x.shape[2:], parts, strict=True)
    )
    return F.interpolate(rows @ x @ columns.T, size=x.shape[2:], mode="nearest-exact")


def _covering(count: int, parts: int) -> Float[Tensor, "P N"]:
    """What share of each of P equal parts of a line each of its N pixels makes up."""
    edge = torch.arange(parts + 1, dtype=torch.float64) * count / parts
    pixel = torch.arange(count, dtype=torch.float64)
    upper = torch.minimum(edge[1:, None], pixel + 1)
    lower = torch.maximum(edge[:-1, None], pixel)
    return (upper - lower).clamp_min(0) * parts / count


def _jpeg(x: Tensor, draw: SampleGenerator, scale: float, quality: int) -> Tensor:
    return jpeg(x, quality=quality)


_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": _defocus_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "saturate": _saturate,
    "elastic": _elastic,
    "pixelate": _pixelate,
    "jpeg": _jpeg,
}
