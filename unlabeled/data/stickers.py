"""Stickers: real drawings (emoji) pasted on a ground, with classes of pixels and boxes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from unlabeled.data.annotated import AnnotatedSource, Annotations, largest
from unlabeled.data.emoji import GROUPS, find, listed
from unlabeled.data.font import Font
from unlabeled.data.images import ArraySamples, no_split
from unlabeled.data.shapes import GROUND, texture, tight_boxes

SPRITE, MOST, CHUNK = 48, 3, 250
SEEDS = {"train": 1000, "test": 5000}


@dataclass(frozen=True, kw_only=True)
class Stickers(AnnotatedSource):
    """One to three emoji, turned a little and of several sizes, on a colored ground; they overlap.

    Classes are the nine groups of Unicode's list. Scenes of "test" have the emoji of the test split
    of `unlabeled.data.emoji.Emoji`, which no scene of "train" shows. The label of an image is the
    class that covers most of it.

    Args:
        root: where the emoji lie, as for `Emoji`.
        image_size: side in px.
        train: images.
        test: images.

    Raises:
        FileNotFoundError: at the first ``split``, if the emoji are not here; says how to get them.
    """

    root: str | None = None
    image_size: int = 64
    train: int = 4000
    test: int = 1000

    @property
    def name(self) -> str:
        """``stickers``."""
        return "stickers"

    @property
    def things(self) -> tuple[str, ...]:
        """The nine groups."""
        return GROUPS

    @property
    def classes(self) -> tuple[str, ...]:
        """The nine groups."""
        return GROUPS

    def split(self, name: str) -> ArraySamples:
        """Return "train" or "test"."""
        images, annotations = self._drawn(name)
        return ArraySamples(images, label=largest(annotations))

    def annotations(self, split: str) -> Annotations:
        """Return the truth."""
        return self._drawn(split)[1]

    def _drawn(self, split: str) -> tuple[Tensor, Annotations]:
        counts = {"train": self.train, "test": self.test}
        if split not in counts:
            raise no_split(self.name, split, counts)
        return _drawn(self.root, split, counts[split], self.image_size)


@lru_cache(maxsize=2)
def _sprites(root: str | None) -> dict[str, tuple[Tensor, Tensor]]:
    """[M, 4, SPRITE, SPRITE] float32 in [0, 1], colors times alpha, and [M] groups, by split."""
    font_path, list_path = find(root)
    font, rows = Font(font_path), {"train": ([], []), "test": ([], [])}  # type: ignore[var-annotated]
    for points, group in listed(list_path):
        picture = font.picture(points)
        if picture is None:
            continue
        key = crc32("-".join(f"{point:x}" for point in points).encode())
        pixels, groups = rows["test" if key % 5 == 0 else "train"]
        pixels.append(_pixels(picture))
        groups.append(group)
    return {
        split: (torch.from_numpy(np.stack(pixels)).float() / 255, torch.tensor(groups))
        for split, (pixels, groups) in rows.items()
    }


def _pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as opened:
        picture = opened.convert("RGBA").convert("RGBa")  # colors times alpha, to be resized
    side = max(picture.size)
    canvas = Image.new("RGBa", (side, side))
    canvas.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    small = canvas.resize((SPRITE, SPRITE), Image.Resampling.BOX)
    return np.asarray(small).transpose(2, 0, 1)


@lru_cache(maxsize=4)
def _drawn(root: str | None, split: str, count: int, side: int) -> tuple[Tensor, Annotations]:
    sprites, groups = _sprites(root)[split]
    images: list[Tensor] = []
    parts: list[Annotations] = []
    for start in range(0, count, CHUNK):
        generator = torch.Generator().manual_seed(SEEDS[split] + start)
        image, truth = paste(
            sprites, groups, min(CHUNK, count - start), side=side, generator=generator
        )
        images.append(image)
        parts.append(truth)
    return torch.cat(images), Annotations(*(torch.cat(each) for each in zip(*parts, strict=True)))


def paste(
    sprites: Tensor, groups: Tensor, count: int, *, side: int, generator: torch.Generator
) -> tuple[Tensor, Annotations]:
    """Draw images [N, 3, side, side] uint8 and their truth; later things lie above earlier ones.

    Args:
        sprites: [M, 4, S, S], colors times alpha, and alpha.
        groups: [M] classes.
        count: N.
        side: in px.
        generator: of everything that is drawn.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    chosen = torch.randint(len(sprites), (count, MOST), generator=generator)
    number = torch.randint(1, MOST + 1, (count,), generator=generator)
    there = torch.arange(MOST) < number[:, None]
    size = uniform(0.35, 0.65, MOST)  # of half a side
    center = uniform(-0.6, 0.6, MOST, 2)
    turn = uniform(-0.35, 0.35, MOST)
    line = (torch.arange(side) + 0.5) / side * 2 - 1
    v, u = torch.meshgrid(line, line, indexing="ij")
    place = torch.stack([u, v], -1).flatten(0, 1).expand(count, -1, -1)
    fineness, ways = (torch.full((count,), float(value)) for value in GROUND)
    color = texture(place, fineness, ways, generator).mT.unflatten(2, (side, side))
    owner = torch.full((count, side, side), -1)
    for thing in range(MOST):
        cos, sin = turn[:, thing].cos(), turn[:, thing].sin()
        rotation = torch.stack([cos, sin, -sin, cos], 1).view(-1, 2, 2)
        apart = (place - center[:, None, thing]) @ rotation.mT / size[:, thing, None, None]
        seen = F.grid_sample(
            sprites[chosen[:, thing]], apart.unflatten(1, (side, side)), align_corners=False
        )
        seen = seen * there[:, thing, None, None, None]
        color = seen[:, :3] + color * (1 - seen[:, 3:])
        owner = torch.where(seen[:, 3] > 0.5, thing, owner)
    images = (255 * color).round().clamp(0, 255).byte()
    return images.contiguous(), tight_boxes(owner, groups[chosen])
