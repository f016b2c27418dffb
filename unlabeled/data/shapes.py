"""Shapes: drawn scenes of textured shapes on a textured ground, with classes, boxes and maps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from unlabeled.data.annotated import AnnotatedSource, Annotations, largest
from unlabeled.data.images import ArraySamples, no_split

NAMES = ("circle", "square", "triangle", "star", "cross", "ring")
MATERIALS = ((9.0, 0), (9.0, 1), (9.0, 2), (22.0, 0), (22.0, 1), (22.0, 2))
"""Of each class: waves in radians over half a side, and their ways: all, one, or two."""
GROUND = (3.5, 0)
MOST, WAVES, CHUNK = 3, 8, 250
SEEDS = {"train": 1000, "test": 5000}


@dataclass(frozen=True, kw_only=True)
class Shapes(AnnotatedSource):
    """One to three shapes of six classes, turned and of several sizes, that may overlap.

    A class has its material beside its shape: how fine its pattern is, and whether the pattern's
    waves go one way, two ways or all ways. Colors are drawn for each thing and say nothing; the
    ground is gray and its pattern coarse. The label of an image is the class that covers most.

    Args:
        image_size: side in px.
        train: images.
        test: images.
    """

    image_size: int = 64
    train: int = 4000
    test: int = 1000

    @property
    def name(self) -> str:
        """``shapes``."""
        return "shapes"

    @property
    def things(self) -> tuple[str, ...]:
        """The six."""
        return NAMES

    @property
    def classes(self) -> tuple[str, ...]:
        """The six."""
        return NAMES

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
        return _drawn(SEEDS[split], counts[split], self.image_size)


def inside(x: Tensor, y: Tensor, kind: Tensor) -> Tensor:
    """[..., P] signed distance, about, of places to the border of shapes of radius 1; inside > 0.

    Args:
        x: [..., P].
        y: [..., P].
        kind: [...] int64, of `NAMES`.
    """
    radius, angle = (x.square() + y.square()).sqrt(), torch.atan2(y, x)
    third = torch.stack(
        [(x * math.cos(a) + y * math.sin(a)) for a in (math.pi / 2, math.pi * 7 / 6, -math.pi / 6)]
    )
    long, short = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
    arms = torch.minimum(0.95 - long, 0.32 - short)
    found = torch.stack(
        [
            0.9 - radius,
            0.8 - long,
            0.55 - third.amax(0),
            0.72 + 0.28 * (5 * angle).cos() - radius,
            arms,
            0.25 - (radius - 0.7).abs(),
        ]
    )
    index = kind[None, ..., None].expand(1, *found.shape[1:])
    return found.gather(0, index)[0]


@lru_cache(maxsize=4)
def _drawn(seed: int, count: int, side: int) -> tuple[Tensor, Annotations]:
    images: list[Tensor] = []
    parts: list[Annotations] = []
    for start in range(0, count, CHUNK):
        generator = torch.Generator().manual_seed(seed + start)
        image, truth = draw_shapes(min(CHUNK, count - start), side=side, generator=generator)
        images.append(image)
        parts.append(truth)
    return torch.cat(images), Annotations(*(torch.cat(each) for each in zip(*parts, strict=True)))


def draw_shapes(count: int, *, side: int, generator: torch.Generator) -> tuple[Tensor, Annotations]:
    """Draw images [N, 3, side, side] uint8 and their truth; later shapes lie above earlier ones."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    kind = torch.randint(len(NAMES), (count, MOST), generator=generator)
    number = torch.randint(1, MOST + 1, (count,), generator=generator)
    there = torch.arange(MOST) < number[:, None]
    size = uniform(0.35, 0.6, MOST)  # of half a side
    center = uniform(-0.65, 0.65, MOST, 2)
    turn = uniform(0, 2 * math.pi, MOST)
    line = (torch.arange(side) + 0.5) / side * 2 - 1
    v, u = torch.meshgrid(line, line, indexing="ij")
    place = torch.stack([u, v], -1).flatten(0, 1)
    fineness, ways = torch.tensor((*MATERIALS, GROUND)).unbind(1)
    ground = torch.full((count,), len(MATERIALS))
    color = texture(place.expand(count, -1, -1), fineness[ground], ways[ground], generator)
    color = color.mean(2, keepdim=True).expand_as(color)
    owner = torch.full((count, side * side), -1)
    for thing in range(MOST):
        apart = (place - center[:, None, thing]) / size[:, thing, None, None]
        cos, sin = turn[:, thing, None].cos(), turn[:, thing, None].sin()
        x = cos * apart[..., 0] + sin * apart[..., 1]
        y = cos * apart[..., 1] - sin * apart[..., 0]
        depth = inside(x, y, kind[:, thing]) * size[:, thing, None] * side / 2  # in px
        cover = (depth + 0.5).clamp(0, 1) * there[:, thing, None]
        own = torch.stack([x, y], -1) * size[:, thing, None, None]
        color = torch.lerp(
            color,
            texture(own, fineness[kind[:, thing]], ways[kind[:, thing]], generator),
            cover[..., None],
        )
        owner = torch.where(cover > 0.5, thing, owner)
    images = (255 * color).round().byte().view(count, side, side, 3).permute(0, 3, 1, 2)
    return images.contiguous(), tight_boxes(owner.view(count, side, side), kind)


def tight_boxes(owner: Tensor, kind: Tensor) -> Annotations:
    """Truth of images from which thing each pixel belongs to [N, H, W], -1 none, and classes.

    Boxes are those of what is seen; things of which less than 12 px are seen are none.
    """
    seen = owner[:, None] == torch.arange(kind.shape[1])[:, None, None]  # [N, K, H, W]
    enough = seen.flatten(2).sum(2) >= 12
    rows, columns = seen.any(3).byte(), seen.any(2).byte()
    box = torch.stack(
        [
            columns.argmax(2),
            rows.argmax(2),
            columns.shape[2] - columns.flip(2).argmax(2),
            rows.shape[2] - rows.flip(2).argmax(2),
        ],
        2,
    )
    classes = torch.where(enough, kind, -1)
    padded = torch.cat([kind, torch.full_like(kind[:, :1], -1)], 1)
    row = torch.arange(len(owner))[:, None, None]
    maps = padded[row, owner.where(owner >= 0, torch.tensor(kind.shape[1]))] + 1
    return Annotations(maps.byte(), box.float() * enough[..., None], classes)


def texture(place: Tensor, fineness: Tensor, ways: Tensor, generator: torch.Generator) -> Tensor:
    """[N, P, 3] in [0, 1] at places [N, P, 2], a pattern of its own for each of N."""
    count = len(place)
    angle = 2 * math.pi * torch.rand(count, WAVES, generator=generator)
    first = angle[:, :1]
    across = first + math.pi / 2 * (torch.arange(WAVES) % 2)
    narrow = torch.where(ways[:, None] == 1, first.expand_as(angle), across)
    angle = torch.where(ways[:, None] == 0, angle, narrow)
    size = fineness[:, None] * (0.8 + 0.4 * torch.rand(count, WAVES, generator=generator))
    wave = torch.stack([angle.cos(), angle.sin()], -1) * size[..., None]
    phase = 2 * math.pi * torch.rand(count, WAVES, generator=generator)
    amplitude = 0.08 * torch.randn(count, WAVES, 3, generator=generator)
    base = 0.2 + 0.6 * torch.rand(count, 1, 3, generator=generator)
    return (base + (place @ wave.mT + phase[:, None]).sin() @ amplitude).clamp(0, 1)
