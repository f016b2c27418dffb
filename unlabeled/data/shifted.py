"""Shifted: the same things as another camera would show them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from unlabeled.data.images import ArraySamples, ImageSource, WrappedSource
from unlabeled.data.source import ImageSpec, Samples


@dataclass(frozen=True)
class Shifted(WrappedSource):
    """A source whose images are inverted, of less contrast, and noisy; classes stay.

    ``y = 0.2 + 0.6 (1 - x) + noise`` in [0, 1], noise N(0, 0.08^2), the same in every run.

    Args:
        source: images in memory, such as `FashionMnist`.

    Raises:
        ValueError: at the first ``split``, images that do not lie in memory.
    """

    @property
    def name(self) -> str:
        """The source's name and ``-shifted``."""
        return f"{self.source.name}-shifted"

    def spec(self) -> ImageSpec:
        """Return the source's, with the statistics that the change makes of its own."""
        spec = self.source.spec()
        mean = tuple(round(0.8 - 0.6 * value, 4) for value in spec.mean)
        std = tuple(round(((0.6 * value) ** 2 + 0.08**2) ** 0.5, 4) for value in spec.std)
        return replace(spec, mean=mean, std=std)

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
    noise = 0.08 * torch.randn(images.shape, generator=generator)
    changed = (0.2 + 0.6 * (1 - images) + noise).clamp(0, 1)
    return ArraySamples((255 * changed).round().byte(), label=samples.label)
