"""Pictures for a page: pixels as people can see them, packed into sprites and data URIs."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from unlabeled.data.source import ImageSpec
from unlabeled.method import Batch

JPEG_BLOCK = 8
QUALITIES = (88, 75, 60, 45, 30)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image: a data URI and its size in pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Sprite:
    """Many square thumbnails in one image.

    Thumbnail i is the square of ``side`` pixels whose left top corner is at
    ``pitch * (i % columns, i // columns)``.
    """

    uri: str
    side: int
    pitch: int
    columns: int
    rows: int

    def place(self, number: int) -> tuple[int, int]:
        """Return column and row of a thumbnail."""
        return number % self.columns, number // self.columns


def thumbnails(batch: Batch, *, channels: int, side: int) -> Tensor:
    """[B, 1 or 3, side, side] in [0, 1]: the centered squares of a raw batch's images.

    Of two channels the first is kept, of more than three the first three.
    """
    from unlabeled.views.image import Plain

    plain = ImageSpec(channels=channels, size=side, mean=(0.0,) * channels, std=(1.0,) * channels)
    pixels = Plain(spec=plain, crop=1.0)(batch)
    return pixels[:, : visible(channels)].clamp(0, 1)


def visible(channels: int) -> int:
    """How many of an image's channels a picture shows: 1 (gray) or 3 (red, green, blue)."""
    return 3 if channels >= 3 else 1


def stretch(images: Tensor, *, channels: int) -> Tensor:
    """Scale each channel to its smallest and largest value over all images, unless it is color.

    Images that had 1 or 3 channels are gray or RGB and stay as they are.
    """
    if channels in (1, 3):
        return images
    low, high = images.amin((0, 2, 3), keepdim=True), images.amax((0, 2, 3), keepdim=True)
    return (images - low) / (high - low).clamp_min(1e-12)


def sprite(images: Tensor, *, budget: int) -> Sprite:
    """Pack [N, 1 or 3, S, S] images in [0, 1] into one JPEG of about ``budget`` bytes at most.

    Cells begin at multiples of 8 px, JPEG's block, and repeat their last pixel up to the next, so
    that no thumbnail bleeds into another.

    Raises:
        ValueError: images that are not square.
    """
    count, channels, side, width = images.shape
    if side != width or not count:
        raise ValueError(f"images are {tuple(images.shape)}: give at least one, all square")
    pitch = JPEG_BLOCK * math.ceil(side / JPEG_BLOCK)
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = images.new_zeros(rows * columns, channels, pitch, pitch)
    spare = pitch - side
    sheet[:count] = torch.nn.functional.pad(images, (0, spare, 0, spare), mode="replicate")
    sheet = sheet.view(rows, columns, channels, pitch, pitch).permute(2, 0, 3, 1, 4)
    image = _image(sheet.reshape(channels, rows * pitch, columns * pitch))
    for quality in QUALITIES:
        # not optimize=True: Pillow then needs the whole file to fit its buffer, and fails
        data = _encoded(image, "JPEG", quality=quality, subsampling=0)
        if len(data) <= budget:
            break
    return Sprite(uri=_uri(data, "jpeg"), side=side, pitch=pitch, columns=columns, rows=rows)


def picture(image: Tensor, *, most: int = 128) -> Picture:
    """Turn [1 or 3, H, W] in [0, 1] into a picture of at most ``most`` pixels a side."""
    drawn = _image(image)
    if max(drawn.size) > most:
        drawn.thumbnail((most, most), Image.Resampling.LANCZOS)
    small = max(drawn.size) <= 64
    data = _encoded(drawn, "PNG", optimize=True) if small else _encoded(drawn, "JPEG", quality=85)
    return Picture(
        uri=_uri(data, "png" if small else "jpeg"), width=drawn.width, height=drawn.height
    )


def film(frames: Tensor, *, rate: float = 8.0, most: int = 960) -> Picture:
    """Turn [T, 1 or 3, H, W] in [0, 1] into an animated picture that repeats, or a still for T = 1.

    Args:
        frames: of equal size.
        rate: frames a second.
        most: pixels of the longer side.
    """
    if frames.ndim != 4 or len(frames) == 0 or frames.shape[1] not in (1, 3):
        raise ValueError(f"frames are {list(frames.shape)}: give [T, 1 or 3, H, W], T at least 1")
    if len(frames) == 1:
        return picture(frames[0], most=most)
    drawn = [_image(frame) for frame in frames]
    for image in drawn:
        image.thumbnail((most, most), Image.Resampling.LANCZOS)
    data = _encoded(
        drawn[0],
        "WEBP",
        save_all=True,
        append_images=drawn[1:],
        duration=round(1000 / rate),
        loop=0,
        quality=80,
    )
    return Picture(uri=_uri(data, "webp"), width=drawn[0].width, height=drawn[0].height)


def _image(pixels: Tensor) -> Image.Image:
    array = (pixels.float() * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
