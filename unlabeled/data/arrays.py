"""Images in one .npy or .npz file."""

from __future__ import annotations

import zipfile
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlabeled.data.images import ArraySamples, ImageSource, as_labels, no_split

IMAGE_KEYS = ("x", "images", "image", "data", "arr_0")
LABEL_KEYS = ("y", "labels", "label", "targets", "arr_1")
MOST_CHANNELS = 16
ORDERS = ("nhw", "nhwc", "nchw")
Array = NDArray[Any]


@dataclass(frozen=True)
class ArrayFile(ImageSource):
    """Images [N, H, W], [N, H, W, C] or [N, C, H, W] in a .npy or .npz file.

    In an .npz, images are under one of `IMAGE_KEYS` and labels, if any, under one of
    `LABEL_KEYS`; ``train_x``, ``train_y``, ``test_x``, ``test_y`` (or ``x_train`` ...) give the
    splits. Without these, labeled images are split by crc32(place) % 5 == 0 (test), unlabeled
    ones are all "train". "all" is everything. uint8 stays; uint16 is divided by 65,535; floats
    must lie in [0, 1], or in [0, 255], and are then divided by 255; bool counts as 0 and 1.

    Args:
        path: the file.
        order: "nhw", "nhwc" or "nchw", for shapes that can be read in two ways.
        image_size: recommended side; by default the images' shorter one, at most 224.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a wrong shape, dtype, key, count of labels or value, at the first use.
    """

    path: str
    _: KW_ONLY
    order: str | None = None
    image_size: int | None = None

    def __post_init__(self) -> None:
        if not Path(self.path).is_file():
            raise FileNotFoundError(f"{self.path} does not exist: give a .npy or .npz file")
        if self.order not in (None, *ORDERS):
            raise ValueError(f"order is {self.order!r}: give one of {', '.join(ORDERS)}")

    @property
    def name(self) -> str:
        """The file's name."""
        return Path(self.path).stem

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The labels in the file, sorted."""
        return _read(self.path, self.order)[1]

    def side(self, images: Tensor | list[Tensor]) -> int:
        """Return ``image_size`` or the images' shorter side, at most 224."""
        return self.image_size or super().side(images)

    def split(self, name: str) -> ArraySamples:
        """Return "train", "all" or, where the file has it or has labels, "test"."""
        splits, classes = _read(self.path, self.order)
        if name not in splits:
            why = "" if classes else "no labels, so nothing is set apart"
            raise no_split(self.path, name, splits, why)
        return splits[name]


@lru_cache(maxsize=2)
def _read(path: str, order: str | None) -> tuple[dict[str, ArraySamples], tuple[str, ...] | None]:
    arrays = _load(path)
    train, test = _pick(path, arrays, "train"), _pick(path, arrays, "test")
    parts = [part for part in (train or _pick(path, arrays, ""), test) if part]
    if not parts or (test and len(parts) == 1):
        raise ValueError(
            f"{path} has the keys {', '.join(arrays)}: name the images one of "
            f"{', '.join(IMAGE_KEYS)} (or train_x and test_x)"
        )
    images = [as_images(part[0], path=path, order=order) for part in parts]
    if len({image.shape[1] for image in images}) > 1:
        raise ValueError(
            f"{path}: train and test images have other channels: {images[0].shape[1]}"
            f" and {images[1].shape[1]}"
        )
    labels, classes = _labels(path, [(part[1], len(part[0])) for part in parts])
    if test:
        names = ("train", "test")
        splits = {
            name: ArraySamples(image, label=label)
            for name, image, label in zip(names, images, labels, strict=True)
        }
        return splits, classes
    whole = ArraySamples(images[0], label=labels[0])
    if labels[0] is None:
        return {"train": whole, "all": whole}, None
    held = torch.tensor([crc32(str(place).encode()) % 5 == 0 for place in range(len(whole))])
    parts_of = {"train": ~held, "test": held}
    splits = {
        name: ArraySamples(images[0][keep], label=labels[0][keep])
        for name, keep in parts_of.items()
        if keep.any()
    }
    return {**splits, "all": whole}, classes


def _load(path: str) -> dict[str, Array]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"x": loaded}
        with loaded:
            return {key: loaded[key] for key in loaded.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read as numpy arrays ({error}): save it with numpy.save or "
            "numpy.savez, without Python objects"
        ) from error


def _pick(path: str, arrays: dict[str, Array], split: str) -> tuple[Array, Array | None] | None:
    def first(keys: tuple[str, ...]) -> Array | None:
        for key in keys:
            for spelled in (f"{split}_{key}", f"{key}_{split}") if split else (key,):
                if spelled in arrays:
                    return arrays[spelled]
        return None

    images, labels = first(IMAGE_KEYS), first(LABEL_KEYS)
    if images is None:
        return None
    if labels is not None and labels.shape == (len(images), 1):
        labels = labels[:, 0]
    if labels is not None and labels.shape != (len(images),):
        raise ValueError(
            f"{path}: {len(images)} images but labels of shape {labels.shape}: give one an image"
        )
    return images, labels


def _labels(
    path: str, parts: list[tuple[Array | None, int]]
) -> tuple[list[Tensor | None], tuple[str, ...] | None]:
    known = [labels for labels, _ in parts if labels is not None]
    if len(known) < len(parts):
        return [None] * len(parts), None
    joined = np.concatenate(known)
    if joined.dtype.kind not in "iubSU":
        raise ValueError(f"{path}: labels are {joined.dtype}: give integers or text")
    numbers, classes = as_labels(joined.tolist())
    return list(numbers.split([count for _, count in parts])), classes


def as_images(array: Array, *, path: str, order: str | None = None) -> Tensor:
    """Return [N, C, H, W], uint8 or float32 in [0, 1].

    Raises:
        ValueError: shape, dtype or values that no reading fits; names the file and the remedy.
    """
    shape = array.shape
    order = order or _order(shape, path)
    if len(shape) != len(order) or 0 in shape:
        raise ValueError(f"{path} has shape {shape}, which is not {order}: give N images of H x W")
    if order == "nhw":
        array = array[:, None]
    elif order == "nhwc":
        array = array.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(unit(array, path=path)))


def _order(shape: tuple[int, ...], path: str) -> str:
    if len(shape) == 3:
        return "nhw"
    if len(shape) == 4:
        first, last = shape[1] <= MOST_CHANNELS, shape[3] <= MOST_CHANNELS
        if first and last:  # tiny images: only 1 or 3 against another count is clear
            first, last = shape[1] in (1, 3), shape[3] in (1, 3)
        if first != last:
            return "nchw" if first else "nhwc"
        raise ValueError(
            f"{path} has shape {shape}: channels may be the second or the last, say which with "
            "order='nchw' or order='nhwc' (on the command line: data.order=nchw)"
        )
    raise ValueError(
        f"{path} has shape {shape}: give images as [N, H, W], [N, H, W, C] or [N, C, H, W]"
    )


def unit(array: Array, *, path: str) -> Array:
    """Return the array as uint8, or as float32 in [0, 1].

    uint16 is divided by 65,535. Floats are taken as they are in [0, 1], divided by 255 in
    [0, 255]; bool becomes 0 and 255.

    Raises:
        ValueError: NaN, inf, negative or larger values, or another dtype.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype == np.uint16:
        return (array / np.float32(65535)).astype(np.float32)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{path} holds {array.dtype}: give uint8, uint16 or floats in [0, 1]")
    low, high = array.min(), array.max()  # NaN if there is one
    if not np.isfinite(low) or not np.isfinite(high):
        bad = int((~np.isfinite(array)).sum())
        raise ValueError(f"{path} holds NaN or inf ({bad} values): replace them first")
    if array.dtype.kind in "iu" and low >= 0 and high <= 255:
        return array.astype(np.uint8)
    if low < 0 or high > 255 or array.dtype.kind in "iu":
        raise ValueError(
            f"{path} holds values from {low} to {high}: scale them to [0, 1], [0, 255] or uint16"
        )
    return (array / (255 if high > 1 else 1)).astype(np.float32)
