"""Gray and GrayAnnotated: colored sources for encoders of gray images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from unlabeled.data.annotated import AnnotatedSource, Annotations
from unlabeled.data.images import ArraySamples, ImageSource, WrappedSource
from unlabeled.data.source import ImageSpec

LUMA = (0.2989, 0.587, 0.114)


@dataclass(frozen=True)
class Gray(WrappedSource):
    """A source whose colors become their luma (ITU-R BT.601).

    Args:
        source: images in memory, such as `Emoji`.

    Raises:
        ValueError: at the first ``split``, images that do not lie in memory.
    """

    @property
    def name(self) -> str:
        """The source's name and ``-gray``."""
        return f"{self.source.name}-gray"

    def spec(self) -> ImageSpec:
        """Return the source's with one channel and the statistics of gray images."""
        return _facts(self.source)

    def split(self, name: str) -> ArraySamples:
        """Return a split without its colors."""
        return _gray(self.source, name)


@dataclass(frozen=True)
class GrayAnnotated(AnnotatedSource):
    """An annotated source whose colors become their luma; see `Gray`."""

    source: AnnotatedSource

    @property
    def name(self) -> str:
        """The source's name and ``-gray``."""
        return f"{self.source.name}-gray"

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The source's."""
        return self.source.classes

    @property
    def things(self) -> tuple[str, ...]:
        """The source's."""
        return self.source.things

    def spec(self) -> ImageSpec:
        """Return the source's with one channel and the statistics of gray images."""
        return _facts(self.source)

    def split(self, name: str) -> ArraySamples:
        """Return a split without its colors."""
        return _gray(self.source, name)

    def annotations(self, split: str) -> Annotations:
        """Return the source's."""
        return self.source.annotations(split)


@lru_cache(maxsize=8)
def _gray(source: ImageSource, name: str) -> ArraySamples:
    samples = source.split(name)
    if not isinstance(samples, ArraySamples):
        raise ValueError(f"{source.name} does not lie in memory: give arrays, such as Emoji")
    images = samples.images
    if images.shape[1] != 3:
        raise ValueError(f"{source.name} has {images.shape[1]} channels: colors have three")
    unit = images.float() / 255 if images.dtype == torch.uint8 else images
    luma = torch.einsum("c,bchw->bhw", unit.new_tensor(LUMA) / sum(LUMA), unit)[:, None]
    return ArraySamples((255 * luma).round().clamp(0, 255).byte(), label=samples.label)


@lru_cache(maxsize=8)
def _facts(source: ImageSource) -> ImageSpec:
    values = _gray(source, "train").images[:2000].float() / 255
    spec = replace(source.spec(), channels=1, mean=(0.0,), std=(1.0,))
    return replace(spec, mean=(float(values.mean()),), std=(float(values.std()),))
