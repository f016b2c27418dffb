"""Image files to tensors: any mode, depth and number of bands, at no more than the wanted size.

Everything here stays in the thread that calls it: NumPy, Pillow, libjpeg-turbo (simplejpeg), and
of PyTorch only the resizing of RGB bytes, which alone there starts no threads of its own.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate

SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".npy"),
    )
)
JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
TIFF_SUFFIXES = (".tif", ".tiff")
LONGEST = 8
"""Longer side over shorter side at most; of longer images only the center part is used."""
PEAKS = (1.0, 255.0, 65535.0, 4294967295.0)
"""What float and 32-bit images are divided by: the smallest that is not below their maximum."""
UNREADABLE = (
    OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow, NumPy and tifffile raise on damaged files."""

_ORIENTATION = 0x0112
_TURNS = {  # EXIF orientation -> flips of (height, width) and whether to transpose first
    2: (False, (2,)), 3: (False, (1, 2)), 4: (False, (1,)), 5: (True, ()),
    6: (True, (2,)), 7: (True, (1, 2)), 8: (True, (1,)),
}  # fmt: skip
_SAMPLES_PER_PIXEL, _EXTRA_SAMPLES = 277, 338
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's


class Encoded(NamedTuple):
    """An image file that lies in memory: by the ending of its name it is told what it is."""

    name: str
    content: bytes


File = str | Encoded
"""A path, or the content of a file."""


class Header(NamedTuple):
    """What is known of a file before its pixels: kind is "byte", "word" (16 bit) or "wide"."""

    bands: int
    kind: str
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Target:
    """The form that all images of a source are brought to.

    ``side``: shorter side at most (None: as in the file). ``deep``: float32 in [0, 1] rather
    than uint8. ``peak``: what float and 32-bit values are divided by.
    """

    channels: int
    side: int | None = None
    deep: bool = False
    peak: float = 1.0


def read_header(file: File) -> Header:
    """Read size, bands and depth without decoding; raises one of `UNREADABLE`."""
    suffix = _suffix(file)
    if suffix == ".npy":
        in_memory = not isinstance(file, str)
        mode: Literal["r"] | None = None if in_memory else "r"  # maps files, not bytes
        return _array_header(np.load(_stream(file), mmap_mode=mode, allow_pickle=False))
    try:
        with Image.open(_stream(file)) as image:
            if suffix in TIFF_SUFFIXES and _many_bands(image):
                return _tiff_header(file)
            width, height = image.size
            return Header(_bands(image.mode), _kind(image.mode), height, width)
    except UnidentifiedImageError:
        if suffix in TIFF_SUFFIXES and _length(file):
            return _tiff_header(file)
        raise


def read_image(file: File, target: Target) -> Tensor:
    """Read a file as [C, H, W]; raises one of `UNREADABLE`.

    Transparency is laid on white, palettes and CMYK become RGB, of animations and multi-page files
    the first picture counts, EXIF orientation is applied. 16-bit values are divided by 65,535.
    """
    suffix = _suffix(file)
    if suffix == ".npy":
        return _tensor(_from_array(np.load(_stream(file), allow_pickle=False), target))
    if suffix in JPEG_SUFFIXES:
        content = _content(file)
        with Image.open(BytesIO(content)) as image:
            return from_pil(image, target, content=content)
    try:
        with Image.open(_stream(file)) as image:
            if not (suffix in TIFF_SUFFIXES and _many_bands(image)):
                return from_pil(image, target)
    except UnidentifiedImageError:
        if suffix not in TIFF_SUFFIXES:
            raise
    return _tensor(_from_array(_read_tiff(file), target))


def _suffix(file: File) -> str:
    return os.path.splitext(file if isinstance(file, str) else file.name)[1].lower()


def _stream(file: File) -> str | BytesIO:
    return file if isinstance(file, str) else BytesIO(file.content)


def _content(file: File) -> bytes:
    if not isinstance(file, str):
        return file.content
    with open(file, "rb") as opened:
        return opened.read()


def _length(file: File) -> int:
    return os.path.getsize(file) if isinstance(file, str) else len(file.content)


def from_pil(image: Image.Image, target: Target, *, content: bytes = b"") -> Tensor:
    """Bring an open Pillow image to [C, H, W] of the target's form.

    ``content``: the file's bytes, of which a plain JPEG is decoded by libjpeg-turbo itself, to the
    same pixels that Pillow makes of it.
    """
    turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    if _kind(image.mode) != "byte":
        return _tensor(_from_array(np.asarray(image), target), turn)
    if target.side is not None:  # JPEG only: decode at 1/2, 1/4 or 1/8
        image.draft("L" if target.channels == 1 else "RGB", (target.side, target.side))
    plain = _plain_jpeg(content, image) if content else None
    if plain is not None and plain.shape[2] == 1:
        image = Image.fromarray(plain[..., 0])
    elif plain is None:
        if image.mode in ("P", "PA"):
            alpha = image.mode == "PA" or "transparency" in image.info
            image = image.convert("RGBA" if alpha else "RGB")
        elif image.mode == "1":
            image = image.convert("L")
        elif image.mode in ("L", "RGB") and "transparency" in image.info:  # one color: see-through
            image = image.convert("RGBA")
    top, left, height, width = middle(image.height, image.width)
    size = shrunk(height, width, target.side)
    if image.mode == "RGB":
        pixels = np.array(image) if plain is None else plain
        pixels = pixels[top : top + height, left : left + width]
        if size != (height, width):
            pixels = _resized(pixels, size)
        if target.channels != 3:
            pixels = np.asarray(_in_mode(Image.fromarray(pixels), target.channels))
    else:
        box = (left, top, left + width, top + height)
        if size != (height, width):
            bilinear = Image.Resampling.BILINEAR
            image = image.resize(size[::-1], bilinear, box=box, reducing_gap=2.0)
        elif size != (image.height, image.width):
            image = image.crop(box)
        pixels = np.asarray(_in_mode(image, target.channels))
    pixels = pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)
    return _tensor(pixels / np.float32(255) if target.deep else pixels, turn)


@lru_cache(maxsize=1)
def _simplejpeg() -> Any:
    """Return the module, or None where it is not installed."""
    return import_module("simplejpeg") if find_spec("simplejpeg") is not None else None


def _plain_jpeg(content: bytes, image: Image.Image) -> NDArray[Any] | None:
    """Return [H, W, C] of a JPEG at the size and mode that ``image`` was drafted to.

    None for what Pillow does better, or has to judge: other modes, and every file of which
    libjpeg-turbo has something to say, truncated ones above all.
    """
    codec = _simplejpeg()
    if codec is None or image.format not in ("JPEG", "MPO") or image.mode not in ("L", "RGB"):
        return None
    try:
        pixels: NDArray[Any] = codec.decode_jpeg(
            content,
            "GRAY" if image.mode == "L" else "RGB",
            min_height=image.height,
            min_width=image.width,
            min_factor=1,
        )
    except ValueError:  # warnings too, as it is strict
        return None
    return pixels if pixels.shape[:2] == (image.height, image.width) else None


def _resized(pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Resize RGB bytes [H, W, 3], bilinear and antialiased: Pillow's values but for rounding.

    Two to five times as fast as Pillow where PyTorch has AVX2.
    """
    channels_last = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    small = interpolate(channels_last, size=size, mode="bilinear", antialias=True)[0]
    return small.permute(1, 2, 0).numpy()


def _in_mode(image: Image.Image, channels: int) -> Image.Image:
    mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(channels)
    if mode is None:
        raise ValueError(f"has {_bands(image.mode)} channels, {channels} are wanted")
    if image.mode in ("LA", "La", "RGBa"):
        image = image.convert("RGBA")
    if image.mode == "RGBA" and mode != "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == mode else image.convert(mode)


def _tensor(pixels: NDArray[Any], turn: tuple[bool, tuple[int, ...]] | None = None) -> Tensor:
    if turn is not None:
        transpose, flips = turn
        pixels = np.flip(pixels.swapaxes(1, 2) if transpose else pixels, flips)
    return torch.from_numpy(np.array(pixels, order="C"))


def middle(height: int, width: int) -> tuple[int, int, int, int]:
    """Return top, left, height, width of the center part that is at most 8 times as long."""
    tall, wide = min(height, LONGEST * width), min(width, LONGEST * height)
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def shrunk(height: int, width: int, side: int | None) -> tuple[int, int]:
    """Return the size with the shorter side brought down to ``side``; never enlarged."""
    shorter = min(height, width)
    if side is None or shorter <= side:
        return height, width
    return round(height * side / shorter), round(width * side / shorter)


# Arrays: deep images, many bands -----------------------------------------------------------------


def _bands(mode: str) -> int:
    return 1 if mode in ("1", "L", "LA", "La", "F") or mode.startswith("I") else 3


def _kind(mode: str) -> str:
    if mode.startswith("I;16"):
        return "word"
    return "wide" if mode in ("I", "F") else "byte"


def _many_bands(image: Image.Image) -> bool:
    """Whether a TIFF has bands that Pillow would drop (such as infrared beside RGB)."""
    tags: Any = getattr(image, "tag_v2", {})
    bands, extra = tags.get(_SAMPLES_PER_PIXEL, 1), tags.get(_EXTRA_SAMPLES, ())
    return (bands > 3 and 0 in tuple(extra)) or bands > 4


def _axes(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return bands, height, width of an array [H, W], [H, W, C] or [C, H, W]."""
    if len(shape) == 2 and 0 not in shape:
        return 1, shape[0], shape[1]
    if len(shape) == 3 and 0 not in shape:
        return (shape[0], *shape[1:]) if shape[0] < shape[2] else (shape[2], *shape[:2])
    raise ValueError(f"has shape {shape}: an image is [H, W], [H, W, C] or [C, H, W]")


def _array_header(array: NDArray[Any]) -> Header:
    kinds = {"uint8": "byte", "bool": "byte", "uint16": "word"}
    return Header(*_reordered(_axes(array.shape), kinds.get(array.dtype.name, "wide")))


def _reordered(axes: tuple[int, int, int], kind: str) -> tuple[int, str, int, int]:
    return axes[0], kind, axes[1], axes[2]


def _tifffile() -> Any:
    if find_spec("tifffile") is None:
        raise ValueError("TIFF that Pillow cannot read: pip install tifffile imagecodecs")
    import tifffile

    return tifffile


def _tiff_header(file: File) -> Header:
    tifffile = _tifffile()
    try:
        with tifffile.TiffFile(_stream(file)) as pages:
            page = pages.pages[0]
            kinds = {"uint8": "byte", "bool": "byte", "uint16": "word"}
            return Header(*_reordered(_axes(page.shape), kinds.get(page.dtype.name, "wide")))
    except tifffile.TiffFileError as error:
        raise ValueError(str(error)) from error


def _read_tiff(file: File) -> NDArray[Any]:
    tifffile = _tifffile()
    try:
        return np.asarray(tifffile.imread(_stream(file), key=0))
    except tifffile.TiffFileError as error:
        raise ValueError(str(error)) from error


def read_peak(file: File) -> float:
    """Return the largest value of a float or 32-bit file; raises one of `UNREADABLE`."""
    suffix = _suffix(file)
    if suffix == ".npy":
        return float(np.load(_stream(file), allow_pickle=False).max())
    try:
        with Image.open(_stream(file)) as image:
            if not (suffix in TIFF_SUFFIXES and _many_bands(image)):
                return float(np.asarray(image).max())
    except UnidentifiedImageError:
        if suffix not in TIFF_SUFFIXES:
            raise
    return float(_read_tiff(file).max())


def _from_array(array: NDArray[Any], target: Target) -> NDArray[Any]:
    bands, *_ = _axes(array.shape)
    if array.ndim == 2:
        array = array[None]
    elif array.shape[0] != bands:
        array = array.transpose(2, 0, 1)
    peak = {"uint8": 255.0, "bool": 1.0, "uint16": 65535.0}.get(array.dtype.name, target.peak)
    if array.dtype.kind not in "iufb":
        raise ValueError(f"holds {array.dtype}, no numbers")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= peak):  # NaN fails too
        raise ValueError(f"holds values from {low:g} to {high:g}, outside [0, {peak:g}]")
    top, left, height, width = middle(*array.shape[1:])
    part = array[:, top : top + height, left : left + width]
    image = _with_bands(part.astype(np.float32) / np.float32(peak), target.channels)
    size = shrunk(height, width, target.side)
    if size != (height, width):
        bilinear = Image.Resampling.BILINEAR
        small = [Image.fromarray(band).resize(size[::-1], bilinear) for band in image]
        image = np.stack([np.asarray(band) for band in small]).clip(0, 1)
    return image if target.deep else np.rint(image * 255).astype(np.uint8)


def _with_bands(image: NDArray[Any], channels: int) -> NDArray[Any]:
    bands = len(image)
    if bands == channels:
        return image
    if bands == 1:
        return image.repeat(channels, axis=0)
    if channels == 3 and bands > 3:
        return image[:3]
    if channels == 1:
        weights = LUMA if bands == 3 else None
        return np.average(image, axis=0, weights=weights, keepdims=True).astype(np.float32)
    raise ValueError(f"has {bands} channels, {channels} are wanted")


def reason(error: Exception, file: File) -> str:
    """Return in a few words why a file cannot be read."""
    if isinstance(error, FileNotFoundError):
        return "a link to nowhere" if isinstance(file, str) and os.path.islink(file) else "missing"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return "a link to itself"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    if _length(file) == 0:
        return "empty file"
    if isinstance(error, UnidentifiedImageError):
        return f"no image, starts with {_first_bytes(file)!r}"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels"
    return " ".join(str(error).split())[:120] or type(error).__name__


def _first_bytes(file: File) -> bytes:
    if not isinstance(file, str):
        return file.content[:8]
    with open(file, "rb") as opened:
        return opened.read(8)
