"""What all image sources share: statistics, in-memory splits, the default preparation."""

from __future__ import annotations

import logging
import math
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlabeled.data.source import DataSource, ImageSpec, Samples
from unlabeled.method import Batch

log = logging.getLogger("unlabeled")

STATISTICS_SAMPLE = 1000
LARGEST_SIDE = 224
STORED = 2.0
"""Shorter side of decoded files over the side that an encoder takes: room for crops."""


class ImageSource(DataSource):
    """A source of images; concrete ones are frozen dataclasses that say how to open a split.

    Raw batches are uint8, or float32 in [0, 1].
    """

    @abstractmethod
    def split(self, name: str) -> Samples:
        """Return the split or raise a ValueError that lists those there are."""

    def size(self, split: str) -> int:
        """Return the number of images in a split."""
        return len(self.split(split))

    def spec(self) -> ImageSpec:
        """Return channels, recommended side, mean and std, read off up to 1,000 images."""
        return self._measured

    def prepare(self, spec: ImageSpec) -> Callable[[Batch], Tensor]:
        """Return the function that resizes and normalizes, with nothing random."""
        from unlabeled.views.image import Plain  # views sit above data: no import at the top

        return Plain(spec=spec)

    def fit(self, spec: ImageSpec) -> ImageSource:
        """Return the source whose files are decoded to the side that the spec asks for."""
        return self.at(spec.size)

    def plain(self, spec: ImageSpec) -> ImageSource:
        """Return the source whose files are decoded to what the one centered crop needs.

        That is 256 for 224; where it is odd (73 for 64), one pixel more.
        """
        from unlabeled.views.image import Plain

        return self.at(math.ceil(Plain(spec=spec).shorter / STORED))

    def at(self, side: int) -> ImageSource:
        """Return the source for an encoder that takes ``side`` pixels: files are decoded to it."""
        return self

    def side(self, images: Tensor | list[Tensor]) -> int:
        """Return the recommended side for an encoder: the images' shorter one, at most 224."""
        shorter = sorted(min(image.shape[-2:]) for image in images)
        return min(shorter[len(shorter) // 2], LARGEST_SIDE)

    @cached_property
    def _measured(self) -> ImageSpec:
        samples = self.split("train")
        images = samples.__getitems__(self.some(STATISTICS_SAMPLE))["views"][0]
        mean, std = statistics(images)
        return ImageSpec(channels=len(mean), size=self.side(images), mean=mean, std=std)


@dataclass(frozen=True)
class WrappedSource(ImageSource):
    """A source that changes another: its classes, facts and sizes are those of ``source``.

    Concrete ones are frozen dataclasses with a name and a ``split``; where that leaves samples
    out, they say so in ``size`` too.
    """

    source: ImageSource

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The source's."""
        return self.source.classes

    def size(self, split: str) -> int:
        """Return the source's."""
        return self.source.size(split)

    def spec(self) -> ImageSpec:
        """Return the source's."""
        return self.source.spec()

    def at(self, side: int) -> Self:
        """Return the same of the source for ``side`` pixels."""
        return replace(self, source=self.source.at(side))


class ArraySamples:
    """A split that lies in memory: images [N, C, H, W], uint8 or float32 in [0, 1]."""

    def __init__(
        self,
        images: Tensor,
        *,
        label: Tensor | None = None,
        path: Sequence[str] | None = None,
    ) -> None:
        if images.ndim != 4 or images.dtype not in (torch.uint8, torch.float32):
            raise ValueError(
                f"images are {tuple(images.shape)} {images.dtype}: "
                "give [N, C, H, W] as uint8 or float32"
            )
        if label is not None and len(label) != len(images):
            raise ValueError(f"{len(images)} images but {len(label)} labels: give one an image")
        self.images = images
        self._pixels = images.numpy()
        self.label = None if label is None else label.long()
        self.path = path

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, places: list[int]) -> Batch:
        """Read the images at ``places`` with one gather, by NumPy as in `stacked`."""
        index = torch.as_tensor(places, dtype=torch.int64)
        images = torch.from_numpy(self._pixels.take(places, axis=0))
        batch = Batch(views=[images], index=index)
        if self.label is not None:
            batch["label"] = self.label.index_select(0, index)
        if self.path is not None:
            batch["path"] = [self.path[place] for place in places]
        return batch


def statistics(images: Tensor | list[Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std a channel over all pixels, in [0, 1] and to four digits.

    A std below one gray level (constant images) counts as one gray level.
    """
    total, square, count = np.zeros(1), np.zeros(1), 0
    for image in images:  # NumPy, as many small PyTorch operations would wait for its threads
        pixels = image.flatten(1).numpy().astype(np.float64)
        pixels /= 255 if image.dtype == torch.uint8 else 1
        total, square = total + pixels.sum(1), square + np.square(pixels).sum(1)
        count += pixels.shape[1]
    mean = total / count
    std = np.sqrt(np.maximum(square / count - np.square(mean), 0)).clip(1 / 255)
    return _rounded(mean), _rounded(std)


def stacked(images: list[Tensor]) -> Tensor | list[Tensor]:
    """Return one tensor [B, C, H, W] where sizes agree, else the list.

    Copied by NumPy: in the thread that reads ahead, PyTorch would start a second set of threads
    that competes with the training step's.
    """
    if len({image.shape for image in images}) > 1:
        return images
    return torch.from_numpy(np.stack([image.numpy() for image in images]))


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values.tolist())


def no_split(source: str, split: str, known: Iterable[str], why: str = "") -> ValueError:
    """Return the error for a split that a source does not have."""
    reason = f" ({why})" if why else ""
    return ValueError(f"{source} has no split {split!r}{reason}: it has {', '.join(known)}")


def cache_folder(name: str = "") -> Path:
    """Return our folder for data sets: ``$UNLABELED_DATA``, default ``~/.cache/unlabeled``."""
    root = os.environ.get("UNLABELED_DATA") or "~/.cache/unlabeled"
    return Path(root).expanduser() / name


def as_labels(values: Any) -> tuple[Tensor, tuple[str, ...]]:
    """Return labels 0 .. K-1 and the K class names, in sorted order."""
    names = sorted(set(values))
    place = {name: number for number, name in enumerate(names)}
    numbers = np.fromiter((place[value] for value in values), np.int64, count=len(values))
    return torch.from_numpy(numbers), tuple(str(name) for name in names)
