"""Turned: data whose test images are turned by quarter turns, to judge invariance to rotation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from unlabeled.data.images import ArraySamples, ImageSource, WrappedSource
from unlabeled.data.source import Samples
from unlabeled.method import Batch
from unlabeled.ops.rotate import quarter_turns


@dataclass(frozen=True)
class Turned(WrappedSource):
    """A source whose training images stay upright and whose test images are turned.

    Test image i is turned counterclockwise by i mod 4 quarter turns; a quarter stay upright.

    Args:
        source: square images in memory, such as `FashionMnist`.

    Raises:
        ValueError: at the first ``split``, images that are no squares in memory.
    """

    @property
    def name(self) -> str:
        """The source's name and ``-turned``."""
        return f"{self.source.name}-turned"

    def split(self, name: str) -> Samples:
        """Return "train" as it is, "test" turned."""
        return _turned(self.source) if name == "test" else self.source.split(name)


def turn(batch: Batch) -> Batch:
    """Return a raw batch whose image i is turned by i mod 4 quarter turns, i its index."""
    return {**batch, "views": [quarter_turns(batch["views"][0], batch["index"] % 4)]}


@lru_cache(maxsize=2)
def _turned(source: ImageSource) -> ArraySamples:
    samples = source.split("test")
    if not isinstance(samples, ArraySamples):
        raise ValueError(f"{source.name} does not lie in memory: give arrays, such as FashionMnist")
    turns = torch.arange(len(samples)) % 4
    return ArraySamples(quarter_turns(samples.images, turns), label=samples.label)
