"""Solids: ray-cast objects of eight classes with class, pose, map and depth, easy or hard."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor

from unlabeled.data import solid_scenes
from unlabeled.data.annotated import AnnotatedSource, Annotations, largest
from unlabeled.data.images import ArraySamples, no_split
from unlabeled.data.rendered import rendered
from unlabeled.data.shapes import tight_boxes
from unlabeled.data.solid_scenes import CLASSES, draw, draw_pool, render
from unlabeled.ops import solids

CHUNK = 50
COMBINATIONS = (
    "0000", "1000", "0100", "0010", "0001", "1100", "0110", "0101", "0111", "1110", "1011", "1111",
)  # fmt: skip
"""Texture, color, viewpoint and light, each fixed (0) or random (1); those that the paper has."""
OBJECTS = {"train": 50, "test": 20}
"""Warped objects a class; none of train is in test."""
SEEDS = {"train": 1000, "test": 5000}


@dataclass(frozen=True, kw_only=True)
class Solids(AnnotatedSource):
    """Warped solids of eight classes before a wall, seen from somewhere (``solids``).

    Four things are fixed or random, which makes the data easy or hard ("How Useful is
    Self-Supervised Pretraining for Visual Tasks?", arXiv:2003.14323, section 3): no texture or any;
    a color that the class has, give or take 0.4, or any; one viewpoint or any from above; one
    light or any. The label is the class, of several things that which covers most.

    Args:
        factors: of texture, color, viewpoint, light: one of `COMBINATIONS`.
        image_size: side in px.
        things_shown: in an image; several stand on two rows and may hide each other.
        train: images.
        test: images.

    Raises:
        ValueError: factors that are no such combination, or a number of them not in 1 .. 4.
    """

    factors: str = "1111"
    image_size: int = 32
    things_shown: int = 1
    train: int = 4000
    test: int = 1000

    def __post_init__(self) -> None:
        if self.factors not in COMBINATIONS:
            raise ValueError(f"factors are {self.factors!r}: use one of {', '.join(COMBINATIONS)}")
        if not 1 <= self.things_shown <= 4:
            raise ValueError(f"things_shown is {self.things_shown}: give 1 to 4 in an image")

    @property
    def name(self) -> str:
        """``solids-1111``."""
        return f"solids-{self.factors}"

    @property
    def things(self) -> tuple[str, ...]:
        """The eight."""
        return tuple(CLASSES)

    @property
    def classes(self) -> tuple[str, ...]:
        """The eight."""
        return tuple(CLASSES)

    def split(self, name: str) -> ArraySamples:
        """Return "train" or "test"."""
        found = self._drawn(name)
        return ArraySamples(found["image"], label=found["label"])

    def annotations(self, split: str) -> Annotations:
        """Return classes of pixels, boxes and things."""
        found = self._drawn(split)
        return Annotations(found["maps"], found["boxes"], found["classes"])

    def pose(self, split: str) -> Tensor:
        """[N] int64: from where the first thing is seen, of `POSES`."""
        return self._drawn(split)["pose"]

    def depth(self, split: str) -> Tensor:
        """[N, H, W] float32: along the camera's axis; 0 where nothing is."""
        return self._drawn(split)["depth"]

    def size(self, split: str) -> int:
        """Return the number of images."""
        counts = {"train": self.train, "test": self.test}
        if split not in counts:
            raise no_split(self.name, split, counts)
        return counts[split]

    def _drawn(self, split: str) -> dict[str, Tensor]:
        count = self.size(split)
        return _stored(self.factors, split, count, self.image_size, self.things_shown)


@lru_cache(maxsize=8)
def _stored(factors: str, split: str, count: int, side: int, things: int) -> dict[str, Tensor]:
    return rendered(
        "solids",
        f"{factors}-{split}-{count}-{side}-{things}",
        code=(sys.modules[__name__], solid_scenes, solids),
        make=partial(_render, factors, split, count, side, things),
    )


def _render(factors: str, split: str, count: int, side: int, things: int) -> dict[str, Tensor]:
    pool = draw_pool(OBJECTS[split], seed=SEEDS[split])
    parts = []
    for start in range(0, count, CHUNK):
        number, seed = min(CHUNK, count - start), SEEDS[split] + 1 + start
        scenes = draw(number, factors=factors, things=things, pool=pool, seed=seed)
        part = render(scenes, side=side)
        truth = tight_boxes(part.pop("owner").long(), scenes.kind)
        parts.append({**part, **truth._asdict(), "label": largest(truth)})
    return {name: torch.cat([part[name] for part in parts]).contiguous() for name in parts[0]}
