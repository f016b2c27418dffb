"""Clips: generated films of textured shapes that move over a moving ground."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.images import no_split
from unlabeled.data.videos import ClipSamples, ClipSource

SEEDS = {"train": 1000, "test": 5000}
THINGS, WAVES, CHUNK = 3, 10, 16


@dataclass(frozen=True, kw_only=True)
class Clips(ClipSource):
    """Three blobs with textures of their own, which turn, bounce and swing over a textured ground.

    The ground moves too, so that neither place nor change tells a thing from it; each thing moves
    at least by its own radius. Colors and patterns are drawn for each clip.

    Args:
        frames: of a clip.
        side: in px.
        train: clips.
        test: clips.
    """

    frames: int = 10
    side: int = 64
    train: int = 500
    test: int = 40

    @property
    def name(self) -> str:
        """``clips``."""
        return "clips"

    @property
    def shape(self) -> tuple[int, int]:
        """Frames and side."""
        return self.frames, self.side

    def split(self, name: str) -> ClipSamples:
        """Return "train" or "test"."""
        clips = self._drawn(name)[0]
        return ClipSamples(len(clips), lambda place: clips[place])

    def masks(self, split: str) -> Tensor:
        """[N, T, H, W] uint8: which thing is seen, 0 for the ground."""
        return self._drawn(split)[1]

    def _drawn(self, split: str) -> tuple[Tensor, Tensor]:
        counts = {"train": self.train, "test": self.test}
        if split not in counts:
            raise no_split(self.name, split, counts)
        return _drawn(SEEDS[split], counts[split], self.frames, self.side)


@lru_cache(maxsize=4)
def _drawn(seed: int, count: int, frames: int, side: int) -> tuple[Tensor, Tensor]:
    """Clips [N, T, 3, H, W] uint8 and masks [N, T, H, W] uint8."""
    films, masks = [], []
    for start in range(0, count, CHUNK):
        generator = torch.Generator().manual_seed(seed + start)
        film, mask = draw_clips(
            min(CHUNK, count - start), frames=frames, side=side, generator=generator
        )
        films.append(film)
        masks.append(mask)
    return torch.cat(films), torch.cat(masks)


def draw_clips(
    count: int, *, frames: int, side: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw clips [N, T, 3, side, side] uint8 and which thing is where, uint8."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    time = torch.arange(frames) / max(1, frames - 1)
    radius = uniform(0.22, 0.34, THINGS)  # of the frame, whose half side is 1
    center = _paths(count, time, radius, generator)  # [N, T, K, 2]
    angle = uniform(-1.2, 1.2, THINGS)[:, None] * time[:, None] + uniform(0, 6.3, THINGS)[:, None]
    drift = uniform(-0.35, 0.35, 2)[:, None] * time[:, None]  # [N, T, 2]
    line = (torch.arange(side) + 0.5) / side * 2 - 1
    v, u = torch.meshgrid(line, line, indexing="ij")
    place = torch.stack([u, v], -1).flatten(0, 1)  # [P, 2]

    color = _texture(place - drift[:, :, None], _waves(count, generator, fine=6.0))
    seen = torch.zeros(count, frames, side * side)
    lobes, depth = (
        torch.randint(2, 6, (count, THINGS), generator=generator),
        uniform(0, 0.3, THINGS),
    )
    for thing in range(THINGS):
        apart = place - center[:, :, None, thing]
        cos, sin = angle[:, :, thing, None].cos(), angle[:, :, thing, None].sin()
        x = cos * apart[..., 0] + sin * apart[..., 1]
        y = cos * apart[..., 1] - sin * apart[..., 0]
        own = torch.stack([x, y], -1)
        wave = (lobes[:, thing, None, None] * torch.atan2(y, x)).cos()
        edge = radius[:, thing, None, None] * (1 + depth[:, thing, None, None] * wave)
        inside = ((edge - own.norm(dim=-1)) * side / 2 + 0.5).clamp(0, 1)  # a pixel wide
        paint = _texture(own, _waves(count, generator, fine=10.0))
        color = torch.lerp(color, paint, inside[..., None])
        seen = torch.where(inside > 0.5, thing + 1.0, seen)
    film = (255 * color).round().byte().view(count, frames, side, side, 3)
    return film.permute(0, 1, 4, 2, 3).contiguous(), seen.byte().view(count, frames, side, side)


def _paths(count: int, time: Tensor, radius: Tensor, generator: torch.Generator) -> Tensor:
    """[N, T, K, 2]: straight lines that bounce off the frame, with a swing across."""
    start = 1.2 * torch.rand(count, THINGS, 2, generator=generator) - 0.6
    way = 2 * math.pi * torch.rand(count, THINGS, generator=generator)
    length = radius * (2 + 1.5 * torch.rand(count, THINGS, generator=generator))
    step = length[..., None] * torch.stack([way.cos(), way.sin()], -1)
    swing = 0.15 * torch.rand(count, THINGS, generator=generator)
    phase = 2 * math.pi * torch.rand(count, THINGS, generator=generator)
    beat = (2 * math.pi * time[:, None] + phase[:, None]).sin() * swing[:, None]
    across = torch.stack([-way.sin(), way.cos()], -1)[:, None] * beat[..., None]
    free = start[:, None] + step[:, None] * time[:, None, None] + across
    limit = 0.8
    folded = (free + limit).remainder(4 * limit)  # a triangle wave: there and back
    return torch.where(folded > 2 * limit, 4 * limit - folded, folded) - limit


def _waves(count: int, generator: torch.Generator, *, fine: float) -> tuple[Tensor, ...]:
    """Base [N, 3], waves [N, M, 2], phases [N, M] and amplitudes [N, M, 3]."""
    way = F.normalize(torch.randn(count, WAVES, 2, generator=generator), dim=-1)
    size = fine * (0.4 + 1.2 * torch.rand(count, WAVES, 1, generator=generator))
    return (
        0.25 + 0.5 * torch.rand(count, 3, generator=generator),
        way * size,
        2 * math.pi * torch.rand(count, WAVES, generator=generator),
        0.09 * torch.randn(count, WAVES, 3, generator=generator),
    )


def _texture(place: Tensor, waves: tuple[Tensor, ...]) -> Tensor:
    """[N, T, P, 3] in [0, 1] at places [N, T, P, 2] of each clip's own pattern."""
    base, wave, phase, amplitude = waves
    angle = place @ wave.mT[:, None] + phase[:, None, None]
    return (base[:, None, None] + angle.sin() @ amplitude[:, None]).clamp(0, 1)
