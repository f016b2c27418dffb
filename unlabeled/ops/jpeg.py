"""What JPEG does to images, as tensors: all but the entropy coding, which loses nothing."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float

SIDE = 8
# ITU-T T.81, annex K, tables K.1 (luminance) and K.2 (chrominance)
LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
    *(99,) * 32,
)  # fmt: skip
# JFIF 1.02: Y, Cb, Cr of R, G, B
YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def jpeg(images: Float[Tensor, "B C H W"], *, quality: int) -> Float[Tensor, "B C H W"]:
    """Compress and decompress as libjpeg does, in blocks of 8 x 8, chroma at half the side.

    Three channels are RGB; of others each is compressed as a gray image.

    Args:
        images: in [0, 1]; rounded to 8 bits, as the result is.
        quality: 1 to 100, of libjpeg's scale.

    Raises:
        ValueError: another quality.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"quality is {quality}: give 1 to 100")
    levels = (255 * images.float()).round()
    if images.shape[1] != 3:
        found = _coded(levels.flatten(0, 1)[:, None], LUMA, quality).view_as(levels)
        return found.clamp(0, 255).round() / 255
    matrix = torch.tensor(YCC, dtype=torch.float64)
    ycc = torch.einsum("dc,bchw->bdhw", matrix.float().to(levels), levels)
    luma, chroma = ycc[:, :1].round(), (ycc[:, 1:] + 128).round()
    height, width = luma.shape[2:]
    luma = _coded(luma, LUMA, quality)
    even = F.pad(chroma, (0, width % 2, 0, height % 2), mode="replicate")
    mean = F.avg_pool2d(even, 2).flatten(0, 1)[:, None]
    # libjpeg rounds halves down in even columns and up in odd ones
    up = 0.25 + 0.25 * (torch.arange(mean.shape[3], device=mean.device) % 2)
    half = _coded((mean + up).floor(), CHROMA, quality).view(len(images), 2, *mean.shape[2:])
    # libjpeg's decoder enlarges chroma by a triangle filter, which bilinear interpolation is
    chroma = F.interpolate(half, scale_factor=2, mode="bilinear")[:, :, :height, :width] - 128
    back = torch.linalg.inv(matrix).float().to(levels)
    found = torch.einsum("dc,bchw->bdhw", back, torch.cat([luma, chroma], 1))
    return found.clamp(0, 255).round() / 255


def quantization(table: tuple[int, ...], quality: int) -> Float[Tensor, "8 8"]:
    """The steps of a table at libjpeg's quality: ``clip((t s + 50) // 100, 1, 255)``.

    ``s = 5000 // q`` below 50, else ``200 - 2 q``.
    """
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = (torch.tensor(table) * scale + 50).div(100, rounding_mode="floor").clamp(1, 255)
    return steps.view(SIDE, SIDE).float()


def _coded(planes: Tensor, table: tuple[int, ...], quality: int) -> Tensor:
    """[B, 1, H, W] levels -> the same after quantization of each block's cosines."""
    height, width = planes.shape[2:]
    full = F.pad(planes, (0, -width % SIDE, 0, -height % SIDE), mode="replicate")
    basis = _cosines().to(planes)
    steps = quantization(table, quality).to(planes)
    blocks = full.unflatten(3, (-1, SIDE)).unflatten(2, (-1, SIDE)).transpose(3, 4) - 128
    kept = (basis @ blocks @ basis.T / steps).round() * steps
    found = (basis.T @ kept @ basis + 128).round().clamp(0, 255)
    return found.transpose(3, 4).reshape(full.shape)[:, :, :height, :width]


@lru_cache(maxsize=1)
def _cosines() -> Float[Tensor, "8 8"]:
    """The orthonormal DCT-II: rows are frequencies."""
    place = torch.arange(SIDE, dtype=torch.float64)
    rows = torch.cos(math.pi / SIDE * (place[None] + 0.5) * place[:, None]) * math.sqrt(2 / SIDE)
    rows[0] /= math.sqrt(2)
    return rows.float()
