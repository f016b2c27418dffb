"""Puzzles: an image as square tiles in an order that is drawn from a fixed set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unlabeled.data.source import ImageSpec
from unlabeled.method import Batch
from unlabeled.ops.permutations import farthest_on_average
from unlabeled.views.augment import Augment
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import raw_images

if TYPE_CHECKING:
    from jaxtyping import Float, Int

FLAT = 1e-3
"""Standard deviation, in [0, 1], under which a tile counts as constant: a quarter gray level."""


@dataclass(frozen=True)
class Puzzles:
    """A random view of an image, cut into tiles with gaps, whose order is one of a fixed set.

    The view is one tensor [B, tiles^2, C, t, t], float32. Each cell of a grid of tiles x tiles,
    row by row, gives one tile at a place of its own inside the cell, so that edges do not meet;
    each channel of a tile is moved by up to ``shift`` pixels against the others, against chromatic
    aberration; each channel of each tile gets mean 0 and deviation 1. Then the tile at place i is
    that of cell ``permutation[i]``. The batch's ``order`` is one [B] int64, the row y of
    `permutations`, drawn uniformly (Jigsaw, arXiv:1603.09246, sections 3.2 and 4).

    Args:
        image: the view of the whole image; its ``gray`` is the share of images without color, its
            ``size`` the side of the grid, of which ``tiles`` must be a divisor.
        tiles: cells along a side.
        tile: side of a tile as a share of the cell's (64 of 75 px).
        count: P, how many permutations.
        choose: chooses them, from (count, places=...).
        shift: pixels that channels move, at most; a tile stays in its cell.
        spec: what the encoder gets at evaluation, the whole image; set by `fit`.

    Raises:
        ValueError: fewer than 2 tiles a side, a share outside (0, 1], a negative shift, more
            permutations than there are; at `fit`, a side that ``tiles`` does not divide.
    """

    image: Augment
    _: KW_ONLY
    tiles: int = 3
    tile: float = 64 / 75
    count: int = 1000
    choose: Callable[..., Tensor] = farthest_on_average
    shift: int = 2
    spec: ImageSpec | None = None

    def __post_init__(self) -> None:
        if self.tiles < 2 or not 0 < self.tile <= 1 or self.shift < 0:
            raise ValueError(
                f"tiles is {self.tiles}, tile {self.tile}, shift {self.shift}: give at least 2, "
                "a share of the cell in (0, 1] and at least 0"
            )
        if self.image.size is not None and self.image.size % self.tiles:
            raise ValueError(
                f"the image has {self.image.size} px, which {self.tiles} tiles a side do not "
                f"divide: give a multiple, such as {self.image.size // self.tiles * self.tiles}"
            )

    def fit(self, spec: ImageSpec) -> Puzzles:
        """Return a copy for this spec; a side that is None is the largest multiple of ``tiles``."""
        side = self.image.size or spec.size // self.tiles * self.tiles
        return replace(self, image=replace(self.image, size=side), spec=replace(spec, size=side))

    @property
    def sides(self) -> tuple[int, int]:
        """Sides of a cell and of a tile in pixels, after `fit`."""
        if self.image.size is None:
            raise ValueError("views have no spec: call fit(data.spec()) first")
        cell = self.image.size // self.tiles
        return cell, max(1, round(self.tile * cell))

    @property
    def permutations(self) -> Int[Tensor, "P n"]:
        """The set: tile i of a puzzle of class y is that of cell ``permutations[y, i]``."""
        return self.choose(self.count, places=self.tiles**2)

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """Return a new batch with one view, the ``order``, and the crops' boxes and flips."""
        cell, side = self.sides
        assert self.spec is not None
        channels, places = self.spec.channels, self.tiles**2
        plain = ImageSpec(
            channels=channels,
            size=cell * self.tiles,
            mean=(0.0,) * channels,
            std=(1.0,) * channels,
        )
        images, box, flip = self.image(raw_images(batch), generator, plain)
        device = images.device
        room = cell - side
        start = generator.integers(places, 1, 2, high=room + 1)
        shift = self.shift if channels > 1 else 0  # one channel has nothing to move against
        moved = generator.integers(places, channels, 2, high=2 * shift + 1) - shift
        order = generator.integers(high=len(self.permutations)).to(device)
        inside = (start + moved).clamp(0, room).to(device)  # [B, places, C, 2]
        tiles = cut_tiles(images, inside, tiles=self.tiles, side=side)
        chosen = self.permutations.to(device)[order]
        tiles = normalized(tiles.take_along_dim(chosen[:, :, None, None, None], 1))
        return {**batch, "views": [tiles], "order": [order], "box": [box], "flip": [flip]}


def cut_tiles(
    images: Float[Tensor, "B C S S"], start: Int[Tensor, "B n C 2"], *, tiles: int, side: int
) -> Float[Tensor, "B n C t t"]:
    """Cut a tile out of each cell, row by row, at ``start`` (row, column) from the cell's corner.

    Channels of a tile may start at different pixels.
    """
    batch, channels = images.shape[:2]
    device = images.device
    cell = torch.arange(tiles, device=device) * (images.shape[-1] // tiles)
    corner = torch.cartesian_prod(cell, cell)  # [n, 2]
    first = start + corner[:, None]
    taps = torch.arange(side, device=device)
    rows = (first[..., 0, None] + taps)[..., :, None]
    columns = (first[..., 1, None] + taps)[..., None, :]
    sample = torch.arange(batch, device=device)[:, None, None, None, None]
    channel = torch.arange(channels, device=device)[:, None, None]
    return images[sample, channel, rows, columns]


def normalized(tiles: Float[Tensor, "*B t t"]) -> Float[Tensor, "*B t t"]:
    """Mean 0 and standard deviation 1 of each tile and channel; a constant one becomes 0."""
    std, mean = torch.std_mean(tiles, (-2, -1), correction=0, keepdim=True)
    return (tiles - mean) / torch.where(std < FLAT, 1.0, std)
