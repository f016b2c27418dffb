"""Generated: data of which each sample follows from its place, and nothing is kept."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unlabeled.data.images import no_split
from unlabeled.data.source import DataSource
from unlabeled.method import Batch

if TYPE_CHECKING:
    from unlabeled.views.generator import SampleGenerator

PARTS = {"train": -1, "test": -2}
"""Take the place of an epoch in the random numbers of a split: no run has such epochs."""


class Generated(DataSource):
    """A source that draws its samples from a generator of their places.

    Concrete ones are frozen dataclasses with the fields ``samples``, ``test_samples`` and ``seed``.
    """

    samples: int
    test_samples: int
    seed: int

    @abstractmethod
    def draw(self, generator: SampleGenerator) -> tuple[Tensor, Tensor]:
        """Return what is seen of each sample, and the ``factors`` that made it."""

    def size(self, split: str) -> int:
        """Return the number of samples."""
        sizes = {"train": self.samples, "test": self.test_samples}
        if split not in sizes:
            raise no_split(self.name, split, sizes)
        return sizes[split]

    def split(self, name: str) -> GeneratedSamples:
        """Return "train" or "test"."""
        return GeneratedSamples(self, self.size(name), PARTS[name])

    def prepare(self, spec: Any) -> Callable[[Batch], Tensor]:
        """Return the function that takes what is seen as it is."""
        return as_it_is


def as_it_is(batch: Batch) -> Tensor:
    """Return the one view of a raw batch."""
    view: Tensor = batch["views"][0]
    return view


class GeneratedSamples:
    """A split of a `Generated` source."""

    def __init__(self, source: Generated, count: int, part: int) -> None:
        self.source, self.count, self.part = source, count, part

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, places: list[int]) -> Batch:
        """Generate the samples at ``places``, with their ``factors``."""
        from unlabeled.views.generator import SampleGenerator  # views sit above data

        index = torch.as_tensor(places, dtype=torch.int64)
        seen, factors = self.source.draw(SampleGenerator(self.source.seed, self.part, index))
        return Batch(views=[seen], index=index, factors=factors)
