"""Runs of an agent, under random convolutions."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from unlabeled.data.control import FrameSpec
from unlabeled.method import Batch
from unlabeled.ops.random_conv import SIDE, random_conv
from unlabeled.views.generator import SampleGenerator


@dataclass(frozen=True, kw_only=True)
class WholeRuns:
    """Whole runs, each filtered by a random convolution of its own with some probability.

    Weights are N(0, 1 / fan-in) (Network Randomization, arXiv:1910.05396).

    Args:
        probability: of the convolution; 0 for runs as they are.
        spec: of the observations; set by `fit`.
    """

    probability: float = 0.9
    spec: FrameSpec | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability is {self.probability}: give it in [0, 1]")

    def fit(self, spec: FrameSpec) -> WholeRuns:
        """Return a copy with the facts of the observations."""
        return replace(self, spec=spec)

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """Return a new batch with one view [B, T, C, H, W]."""
        if self.spec is None:
            raise ValueError("views have no spec: call fit(data.spec()) first")
        (frames,) = batch["views"]
        channels = frames.shape[2]
        weight = generator.normal(channels, channels, SIDE, SIDE)
        weight = weight / math.sqrt(channels * SIDE**2)
        changed = generator.coin(self.probability)[:, None, None, None, None]
        view = torch.where(changed, random_conv(frames, weight.to(frames)), frames)
        result: Batch = {**batch, "views": [view]}
        return result
