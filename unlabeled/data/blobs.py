"""Blobs: generated images of soft spots, outliers to any data of things."""

from __future__ import annotations

import torch

from unlabeled.data.source import ImageSpec
from unlabeled.method import Batch
from unlabeled.views.ops import gaussian_blur


def blobs(count: int, *, spec: ImageSpec, seed: int = 0) -> Batch:
    """Return a raw batch of ``count`` images: coin flips, blurred, with the dark part cut off.

    Each pixel and channel is 1 with probability 0.7, blurred with a deviation of 1.5 pixels; what
    is below 0.75 then is 0 (the generated set of Outlier Exposure, arXiv:1812.04606, appendix A,
    which SSD uses).
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (count, spec.channels, spec.size, spec.size)
    coins = (torch.rand(shape, generator=generator) < 0.7).float()
    radius = min(6, spec.size // 2 - 1)
    soft = gaussian_blur(coins, torch.full((count,), 1.5), radius=radius)
    soft[soft < 0.75] = 0.0
    return Batch(views=[soft.clamp(0, 1)], index=torch.arange(count))
