"""Images whose things are known: where they are, and of which class each pixel is."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from unlabeled.data.images import ImageSource


class Annotations(NamedTuple):
    """Truth of N images of one size.

    ``maps`` [N, H, W] uint8: 0 for the ground, else class + 1. ``boxes`` [N, K, 4] float32: left,
    top, right, bottom in px. ``classes`` [N, K] int64, -1 where an image has fewer than K things.
    """

    maps: Tensor
    boxes: Tensor
    classes: Tensor


class AnnotatedSource(ImageSource):
    """Images with the classes of their pixels and the boxes of their things."""

    @property
    @abstractmethod
    def things(self) -> tuple[str, ...]:
        """Names of the classes of things."""

    @abstractmethod
    def annotations(self, split: str) -> Annotations:
        """Return the truth of a split, in the size of its images."""


def largest(annotations: Annotations) -> Tensor:
    """[N] int64: the class of the thing that covers most, a label for the whole image."""
    counts = [
        (annotations.maps == number + 1).flatten(1).sum(1)
        for number in range(int(annotations.classes.max()) + 1)
    ]
    return torch.stack(counts, 1).argmax(1)
