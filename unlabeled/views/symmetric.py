"""Symmetric: any views of images, with values from -1 to 1."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from unlabeled.data.source import ImageSpec
from unlabeled.method import Batch
from unlabeled.views.generator import SampleGenerator


@dataclass(frozen=True)
class Symmetric:
    """Views whose values are ``2 pixel - 1``, whatever the data's statistics: a tanh makes such.

    Args:
        views: the views.
    """

    views: Any

    @property
    def spec(self) -> ImageSpec | None:
        """What the encoder gets: that of the views."""
        return self.views.spec

    def fit(self, spec: ImageSpec) -> Symmetric:
        """Return a copy whose views are fitted to the spec with mean and deviation 0.5."""
        half = (0.5,) * spec.channels
        return Symmetric(self.views.fit(replace(spec, mean=half, std=half)))

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """The views' batch."""
        return self.views(batch, generator)
