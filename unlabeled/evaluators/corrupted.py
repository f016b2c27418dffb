"""Test images that are held in memory, as they are and corrupted, as data to embed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unlabeled.data.images import ArraySamples
from unlabeled.data.order import permutation
from unlabeled.data.source import DataSource, ImageSpec
from unlabeled.features import Features, embed
from unlabeled.method import Batch
from unlabeled.ops.corruptions import CORRUPTIONS, corrupt
from unlabeled.views.generator import SampleGenerator

READ = 500
"""Images that are read at once."""
VALUES = 2**23
"""Values of the images that are corrupted at once."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Held(DataSource):
    """Some test images in 8 bits at an encoder's size, under one corruption or none.

    Args:
        samples: the images with their labels.
        places: [N], of them in test: a corruption does not depend on which others are held.
        facts: the encoder's spec.
        seed: of the corruptions.
        device: where images are corrupted.
        corruption: one of `CORRUPTIONS`, or None.
        severity: of it.
    """

    samples: ArraySamples
    places: Tensor
    facts: ImageSpec
    seed: int
    device: torch.device
    corruption: str | None = None
    severity: int = 0

    @property
    def name(self) -> str:
        """Whether there is a corruption."""
        return "corrupted" if self.corruption else "clean"

    def size(self, split: str) -> int:
        """Return the number of images that are held."""
        return len(self.samples)

    def split(self, name: str) -> ArraySamples:
        """Return the images as they are, whatever the name."""
        return self.samples

    def spec(self) -> ImageSpec:
        """Return the encoder's."""
        return self.facts

    def prepare(self, spec: ImageSpec) -> Callable[[Batch], Tensor]:
        """Return the function that corrupts and normalizes."""
        return self._input

    def under(self, corruption: str, severity: int) -> Held:
        """Return the same images under a corruption."""
        return replace(self, corruption=corruption, severity=severity)

    def pixels(self, batch: Batch) -> Tensor:
        """[B, C, S, S] in [0, 1]."""
        x: Tensor = batch["views"][0].to(self.device).float() / 255
        if self.corruption is None:
            return x
        place = self.places[batch["index"]].to(self.device)
        draws = SampleGenerator(self.seed, CORRUPTIONS.index(self.corruption), place)
        return corrupt(x, self.corruption, severity=self.severity, generator=draws)

    def embedded(self, predict: Any) -> Features:
        """Embed all."""
        values = self.samples.images[0].numel()
        batch = max(1, min(READ, VALUES // values))
        return embed(predict, self, split="test", spec=self.facts, batch_size=batch)

    def _input(self, batch: Batch) -> Tensor:
        mean, std = _statistics(self.facts, self.device)
        return (self.pixels(batch) - mean) / std


def hold(data: DataSource, spec: Any, *, most: int, seed: int, device: torch.device) -> Held:
    """Read images of test, prepared for a spec, and keep them in 8 bits.

    Args:
        data: images with labels.
        spec: the encoder's.
        most: so many, drawn by ``seed``; all where there are fewer.
        seed: of the draw and of corruptions.
        device: the encoder's: images are corrupted there if it is a GPU.

    Raises:
        ValueError: data of another kind, or without labels.
    """
    if not isinstance(spec, ImageSpec):
        raise ValueError(f"{data.name} holds no images: corruptions are of images")
    source = data.plain(spec)
    samples, prepare = source.split("test"), source.prepare(spec)
    places = permutation(len(samples), seed=seed, epoch=0)[:most].sort().values
    mean, std = _statistics(spec, torch.device("cpu"))
    images, labels = [], []
    for part in places.split(READ):
        batch = samples.__getitems__(part.tolist())
        if "label" not in batch:
            raise ValueError(f"{data.name} has no labels in test: errors need classes")
        pixels = (prepare(batch) * std + mean).clamp(0, 1)
        images.append((255 * pixels).round().byte())
        labels.append(batch["label"])
    return Held(
        samples=ArraySamples(torch.cat(images), label=torch.cat(labels)),
        places=places,
        facts=spec,
        seed=seed,
        device=device if device.type == "cuda" else torch.device("cpu"),
    )


def _statistics(spec: ImageSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    mean, std = torch.tensor([spec.mean, spec.std], device=device)[:, :, None, None]
    return mean, std
