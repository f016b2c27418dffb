"""Shifted: the same things as another camera would show them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch.nn.functional import affine_grid, grid_sample

from unlabeled.data.images import ArraySamples, ImageSource, WrappedSource
from unlabeled.data.source import Samples

TILT, NEAREST, FARTHEST, OFF = 0.5, 1.0, 0.7, 0.05


@dataclass(frozen=True)
class Shifted(WrappedSource):
    """A source whose things are seen from farther away, tilted and off the middle; classes stay.

    Each image is turned by up to 0.5 rad, reduced to 0.7 to 1 of its size, and moved by up to a
    twentieth of its side, all uniform and the same in every run; what comes in is black.

    Args:
        source: images in memory, such as `FashionMnist`.

    Raises:
        ValueError: at the first ``split``, images that do not lie in memory.
    """

    @property
    def name(self) -> str:
        """The source's name and ``-shifted``."""
        return f"{self.source.name}-shifted"

    def split(self, name: str) -> Samples:
        """Return a split, changed once."""
        return _changed(self.source, name)


@lru_cache(maxsize=4)
def _changed(source: ImageSource, name: str) -> ArraySamples:
    samples = source.split(name)
    if not isinstance(samples, ArraySamples):
        raise ValueError(f"{source.name} does not lie in memory: give arrays, such as FashionMnist")
    generator = torch.Generator().manual_seed(len(samples))
    images = samples.images.float()
    images = images / 255 if samples.images.dtype == torch.uint8 else images
    draw = torch.rand(len(images), 4, generator=generator)
    angle = TILT * (2 * draw[:, 0] - 1)
    scale = FARTHEST + (NEAREST - FARTHEST) * draw[:, 1]
    move = 2 * OFF * (2 * draw[:, 2:] - 1)  # the grid is 2 wide
    sine, cosine = angle.sin() / scale, angle.cos() / scale
    rows = torch.stack([cosine, -sine, move[:, 0], sine, cosine, move[:, 1]], 1).view(-1, 2, 3)
    grid = affine_grid(rows, list(images.shape), align_corners=False)
    changed = grid_sample(images, grid, align_corners=False).clamp(0, 1)
    return ArraySamples((255 * changed).round().byte(), label=samples.label)
