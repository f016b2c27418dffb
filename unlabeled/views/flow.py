"""FlowAnalogy: a pair of frames, and the same pair transformed in ways that flow can follow."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unlabeled.data.pairs import PairSpec, unit_frames
from unlabeled.method import Batch
from unlabeled.ops.superpixels import superpixels
from unlabeled.ops.warp import compose, pixel_places, sample_at, transform
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.ops import (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    gaussian_blur,
)

TRIES = 64
"""Affine maps that are drawn for a pair; the first that stays inside the frame is taken."""


@dataclass(frozen=True, kw_only=True)
class FlowAnalogy:
    """Three pairs of each pair: as it is, seen through other eyes and lenses, and with holes.

    1. The frames, exchanged with probability 0.5 and mirrored with 0.5.
    2. Color, gamma and blur changed, alike in both; an affine map of the first frame, a slightly
       different one of the second; noise (ARFlow, section 3.3). ``maps`` says which.
    3. A crop, ``box``, in whose second frame superpixels are noise.

    Args:
        zoom: largest magnification of the affine map.
        squeeze: largest stretch of an axis, or its inverse.
        turn: largest angle, in radians.
        shift: largest translation, in halves of a side.
        relative: how far the second frame's zoom, angle and translation are from the first's.
        color: how far brightness, contrast and saturation go from 1.
        gamma: lowest and highest exponent.
        blur: largest sigma in px, with probability 0.5.
        noise: largest standard deviation of the noise.
        keep: share of each side that the crop has.
        parts: superpixels of a crop, about.
        holes: fewest and most that are noise.
        unit: the crop's sides are multiples of it: what the encoder takes.
        spec: what the encoder gets; set by `fit`.
    """

    zoom: float = 1.5
    squeeze: float = 1.16
    turn: float = 0.2
    shift: float = 0.2
    relative: float = 0.015
    color: float = 0.5
    gamma: tuple[float, float] = (0.7, 1.5)
    blur: float = 3.0
    noise: float = 0.04
    keep: float = 0.75
    parts: int = 200
    holes: tuple[int, int] = (8, 16)
    unit: int = 64
    spec: PairSpec | None = None

    def __post_init__(self) -> None:
        if not self.zoom >= 1 or not self.squeeze >= 1 or not 0 < self.keep <= 1:
            raise ValueError(
                f"zoom is {self.zoom}, squeeze {self.squeeze}, keep {self.keep}: give 1 or more, 1 "
                "or more, and a share"
            )

    def fit(self, spec: PairSpec) -> FlowAnalogy:
        """Return a copy with the size of the frames."""
        return replace(self, spec=spec)

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """Return a new batch with three views [B, 2, 3, h, w], ``maps`` and ``box``."""
        if self.spec is None:
            raise ValueError("views have no spec: call fit(data.spec()) first")
        frames = unit_frames(batch)
        frames = torch.where(_each(generator.coin(0.5), frames), frames.flip(1), frames)
        frames = torch.where(_each(generator.coin(0.5), frames), frames.flip(4), frames)
        altered, maps = self._altered(frames, generator)
        hidden, box = self._hidden(frames, generator)
        result: Batch = {**batch, "views": [frames, altered, hidden], "maps": maps, "box": [box]}
        return result

    # Seen otherwise ------------------------------------------------------------------------------

    def _altered(self, frames: Tensor, generator: SampleGenerator) -> tuple[Tensor, list[Tensor]]:
        maps = self._maps(frames.shape[3], frames.shape[4], generator)
        seen = self._colored(frames, generator)
        places = pixel_places(frames).expand(len(frames), -1, -1, -1)
        moved = torch.stack(
            [
                sample_at(frame, transform(theta, places))
                for frame, theta in zip(seen.unbind(1), maps, strict=True)
            ],
            1,
        )
        strength = generator.uniform() * self.noise
        noise = generator.normal(*moved.shape[1:]) * strength[:, None, None, None, None]
        return (moved + noise).clamp(0, 1), maps

    def _maps(self, height: int, width: int, generator: SampleGenerator) -> list[Tensor]:
        """[B, 2, 3] of each frame, from places in the new frame to places in the old one."""
        first = self._affine(height, width, generator, self.zoom, self.squeeze, wide=True)
        second = compose(first, self._affine(height, width, generator, 1, 1, wide=False))
        inside = _inside(first, height, width) & _inside(second, height, width)
        batch = len(inside) // TRIES
        chosen = inside.view(batch, TRIES).byte().argmax(1)
        found = inside.view(batch, TRIES).any(1)[:, None, None]
        still = torch.eye(3, device=first.device)[:2]
        row = torch.arange(batch, device=first.device)
        return [
            torch.where(found, theta.view(batch, TRIES, 2, 3)[row, chosen], still)
            for theta in (first, second)
        ]

    def _affine(
        self,
        height: int,
        width: int,
        generator: SampleGenerator,
        zoom: float,
        squeeze: float,
        *,
        wide: bool,
    ) -> Tensor:
        """[B TRIES, 2, 3] about the middle of the frame."""
        draw = 2 * generator.uniform(TRIES, 5).flatten(0, 1) - 1
        if wide:
            scale = zoom ** ((draw[:, 0] + 1) / 2)
            stretch = squeeze ** draw[:, 1]
            angle, move = self.turn * draw[:, 2], self.shift * draw[:, 3:]
        else:
            scale, stretch = 1 + self.relative * draw[:, 0], torch.ones_like(draw[:, 1])
            angle, move = self.relative * draw[:, 2], self.relative * draw[:, 3:]
        cos, sin = angle.cos(), angle.sin()
        turned = torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2)
        size = torch.stack([stretch, 1 / stretch], 1) / scale[:, None]
        if wide:  # mirrored half of the time, which the zoom allows
            mirror = generator.coin(0.5).repeat_interleave(TRIES)
            size = size * torch.where(mirror[:, None], draw.new_tensor([-1.0, 1.0]), 1.0)
        linear = turned * size[:, None]
        middle = draw.new_tensor([(width - 1) / 2, (height - 1) / 2])
        offset = middle + move * middle - (linear @ middle)
        return torch.cat([linear, offset[:, :, None]], 2)

    def _colored(self, frames: Tensor, generator: SampleGenerator) -> Tensor:
        """Alike in both frames."""
        seen = frames.flatten(0, 1)
        for adjust in (adjust_brightness, adjust_contrast, adjust_saturation):
            factor = generator.uniform(low=1 - self.color, high=1 + self.color)
            seen = adjust(seen, factor.repeat_interleave(2))
        low, high = self.gamma
        exponent = generator.uniform(low=low, high=high).repeat_interleave(2)
        seen = seen.clamp(0, 1) ** exponent[:, None, None, None]
        sigma = generator.uniform(low=0.1, high=max(0.1, self.blur)).repeat_interleave(2)
        radius = min(int(3 * self.blur), min(seen.shape[2:]) - 1)
        blurred = gaussian_blur(seen, sigma, radius=radius) if radius > 0 else seen
        seen = torch.where(_each(generator.coin(0.5).repeat_interleave(2), seen), blurred, seen)
        return seen.view_as(frames)

    # With holes ----------------------------------------------------------------------------------

    def _hidden(self, frames: Tensor, generator: SampleGenerator) -> tuple[Tensor, Tensor]:
        full_height, full_width = frames.shape[3:]
        height, width = self._cropped(full_height), self._cropped(full_width)
        top = generator.integers(high=full_height - height + 1)
        left = generator.integers(high=full_width - width + 1)
        row = top[:, None] + torch.arange(height, device=frames.device)
        column = left[:, None] + torch.arange(width, device=frames.device)
        place = torch.arange(len(frames), device=frames.device)[:, None, None]
        # [B, h, w, 2, 3]: indices beside a slice come first
        cut = frames.permute(0, 3, 4, 1, 2)[place, row[:, :, None], column[:, None]]
        cut = cut.permute(0, 3, 4, 1, 2).contiguous()
        label = superpixels(cut[:, 1], count=self.parts)
        most = int(label.max()) + 1
        rank = generator.uniform(self.parts * 2)[:, :most].argsort(1).argsort(1)
        fewest, largest = self.holes
        count = fewest + generator.integers(high=largest - fewest + 1)
        hole = (rank < count[:, None]).gather(1, label.flatten(1)).view_as(label)
        noise = generator.uniform(*cut.shape[2:])
        second = torch.where(hole[:, None], noise, cut[:, 1])
        sides = torch.tensor([height, width], device=frames.device).expand(len(frames), 2)
        box = torch.cat([torch.stack([top, left], 1), sides], 1).float()
        return torch.stack([cut[:, 0], second], 1), box

    def _cropped(self, side: int) -> int:
        return max(self.unit, int(self.keep * side) // self.unit * self.unit)


def _each(flag: Tensor, like: Tensor) -> Tensor:
    """[B] as [B, 1, ...]."""
    return flag.view(-1, *[1] * (like.ndim - 1))


def _inside(theta: Tensor, height: int, width: int) -> Tensor:
    """[N] bool: whether the corners of the new frame lie in the old one."""
    across, down = theta.new_tensor([0, width - 1]), theta.new_tensor([0, height - 1])
    corners = torch.stack(torch.meshgrid(across, down, indexing="xy"))  # [2, 2, 2]
    old = transform(theta, corners.expand(len(theta), -1, -1, -1)).flatten(2)
    limit = theta.new_tensor([width - 1, height - 1])[:, None]
    return ((old > -1e-3) & (old < limit + 1e-3)).flatten(1).all(1)
