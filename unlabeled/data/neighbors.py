"""Neighbors: images that come with the graph of what is similar to what."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.images import ArraySamples, ImageSource
from unlabeled.data.source import ImageSpec, Samples
from unlabeled.method import Batch
from unlabeled.ops.neighbors import nearest_others


@dataclass(frozen=True)
class Neighbors(ImageSource):
    """A source whose training images know their nearest ones by Euclidean distance of the pixels.

    Batches of "train" also hold ``neighbors``, the places of each image's k nearest ones, nearest
    first, and ``neighbor_images`` [B, k, C, H, W], those images (DrLIM, section 3). The graph is
    made once, of the inputs, and does not change.

    Args:
        source: images of one size in memory, such as `Digits`.
        k: neighbors of an image.
        border: black pixels that are put around each image, so that it can be shifted.
        kept: names of the classes that are used; None: all.
        per_class: training images of each kept class, the first ones; None: all.

    Raises:
        ValueError: k below 1 or a negative border; at the first ``split``, images that do not lie
            in memory, classes that are not there, or no more images than k.
    """

    source: ImageSource
    _: KW_ONLY
    k: int = 5
    border: int = 0
    kept: tuple[str, ...] | None = None
    per_class: int | None = None

    def __post_init__(self) -> None:
        if self.k < 1 or self.border < 0:
            raise ValueError(f"k is {self.k}, border {self.border}: give k from 1, border from 0")

    @property
    def name(self) -> str:
        """The source's name and ``-neighbors``."""
        return f"{self.source.name}-neighbors"

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The source's; those that are not kept have no images."""
        return self.source.classes

    def spec(self) -> ImageSpec:
        """Return the source's with the border: its size, and its statistics by arithmetic."""
        inner = self.source.spec()
        size = inner.size + 2 * self.border
        share = (inner.size / size) ** 2
        mean = [share * value for value in inner.mean]
        square = [share * (m * m + s * s) for m, s in zip(inner.mean, inner.std, strict=True)]
        std = [math.sqrt(s - m * m) for s, m in zip(square, mean, strict=True)]
        return ImageSpec(
            channels=inner.channels,
            size=size,
            mean=tuple(round(value, 4) for value in mean),
            std=tuple(round(value, 4) for value in std),
        )

    def split(self, name: str) -> Samples:
        """Return "train" with neighbors, any other split without."""
        return _with_neighbors(self) if name == "train" else _images(self, name)


class NeighborSamples:
    """A split in memory with the places of each image's neighbors, [N, k]."""

    def __init__(self, samples: ArraySamples, neighbors: Tensor) -> None:
        self.samples, self.neighbors = samples, neighbors

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, places: list[int]) -> Batch:
        """Read the images at ``places`` and their neighbors."""
        batch = self.samples.__getitems__(places)
        neighbors = self.neighbors[batch["index"]]
        batch["neighbors"] = neighbors
        batch["neighbor_images"] = self.samples.images[neighbors]
        return batch


@lru_cache(maxsize=2)
def _with_neighbors(source: Neighbors) -> NeighborSamples:
    samples = _images(source, "train")
    pixels = samples.images.flatten(1).float()
    return NeighborSamples(samples, nearest_others(pixels, k=source.k))


@lru_cache(maxsize=4)
def _images(source: Neighbors, split: str) -> ArraySamples:
    inner = source.source.split(split)
    if not isinstance(inner, ArraySamples):
        raise ValueError(f"{source.source.name} does not lie in memory: give arrays, as Digits")
    images, label = inner.images, inner.label
    if source.kept is not None:
        places = _kept(source, label, split)
        images, label = images[places], None if label is None else label[places]
    return ArraySamples(F.pad(images, (source.border,) * 4), label=label)


def _kept(source: Neighbors, label: Tensor | None, split: str) -> Tensor:
    known = source.classes
    missing = set(source.kept or ()) - set(known or ())
    if label is None or known is None or missing:
        raise ValueError(
            f"{source.source.name} has no classes {', '.join(sorted(missing))}: it has "
            f"{', '.join(known or ('no labels',))}"
        )
    most = source.per_class if split == "train" else None
    numbers = [known.index(name) for name in source.kept or ()]
    places = [(label == number).nonzero().flatten()[:most] for number in numbers]
    return torch.cat(places).sort().values
