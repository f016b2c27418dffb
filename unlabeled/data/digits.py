"""scikit-learn's digits: 1,797 handwritten digits of 8x8, always at hand, for tests and smoke."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch.nn import functional as F

from unlabeled.data.images import ArraySamples, ImageSource, no_split


@dataclass(frozen=True, kw_only=True)
class Digits(ImageSource):
    """1,347 training and 450 test digits (every fourth), enlarged bilinearly to ``size`` px."""

    image_size: int = 16

    def __post_init__(self) -> None:
        if self.image_size < 8:
            raise ValueError(f"image_size is {self.image_size}: digits are 8 px, give 8 or more")

    @property
    def name(self) -> str:
        """``digits``."""
        return "digits"

    @property
    def classes(self) -> tuple[str, ...]:
        """The ten digits."""
        return tuple("0123456789")

    def split(self, name: str) -> ArraySamples:
        """Return "train" or "test"."""
        if name not in ("train", "test"):
            raise no_split(self.name, name, ("train", "test"))
        return _read(self.image_size, name)


@lru_cache(maxsize=4)
def _read(size: int, split: str) -> ArraySamples:
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.from_numpy(data.images).float()[:, None] / 16  # gray levels 0 .. 16
    if size > images.shape[-1]:
        images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
    test = torch.arange(len(images)) % 4 == 0
    keep = test if split == "test" else ~test
    label = torch.from_numpy(data.target).long()
    return ArraySamples((images[keep] * 255).round().byte(), label=label[keep])
