"""Correspondence: whether the place that looks most alike in another view is the same place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unlabeled.data.source import DataSource
from unlabeled.evaluators.evaluator import Figure, Measure, device_of
from unlabeled.losses.dense import matches
from unlabeled.views.augment import Augment
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import TwoViews

EPOCH = -3
"""Of the crops' random numbers; runs have epochs from 0."""


@dataclass(frozen=True, kw_only=True)
class Correspondence:
    """Share of the positions of one crop that find their place in another to within a position.

    Two random crops of each image, mirrored half of the time; positions whose place the other crop
    does not show are left out. The most similar map by cosine counts (DenseCL, section 3.4). The
    floor without a network is the same place in both grids.

    Args:
        images: of the test split.
        near: how far off counts as found, in positions.
        seed: of the crops.
    """

    images: int = 500
    near: float = 1.0
    seed: int = 0
    name: str = "correspondence"
    needs: str = "maps"
    every: int | None = None
    protocol: str = "correspondence/v1"

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Match the first test images."""
        one, other, batch = self._views(data)
        place = device_of(predict)
        with torch.no_grad():
            found = [
                [predict(part.to(place)).float().cpu() for part in view.split(100)]
                for view in (one, other)
            ]
        first, second = (torch.cat(parts) for parts in found)
        match = matches(first.flatten(2), second.flatten(2))
        return [self._measure(match, batch, side=first.shape[2])]

    def plain(self, data: DataSource) -> list[Measure]:
        """The same place in both grids, of 8 x 8."""
        one, _, batch = self._views(data)
        return [self._measure(torch.arange(64).expand(len(one), -1), batch, side=8)]

    def figures(self, predict: Any, data: DataSource) -> list[Figure]:
        """None."""
        return []

    def _views(self, data: DataSource) -> tuple[Tensor, Tensor, Any]:
        count = min(self.images, data.size("test"))
        raw = data.split("test").__getitems__(list(range(count)))
        views = TwoViews(Augment(scale=(0.3, 1.0))).fit(data.spec())
        batch = views(raw, SampleGenerator(self.seed, EPOCH, raw["index"]))
        return *batch["views"], batch

    def _measure(self, match: Tensor, batch: Any, *, side: int) -> Measure:
        right = found_places(match, batch["box"], batch["flip"], side=side, near=self.near)
        seen = right >= 0
        value = 100 * float(right[seen].double().mean())
        return Measure(metric="found", value=value, test=int(seen.any(1).sum()))


def found_places(
    match: Tensor, box: list[Tensor], flip: list[Tensor], *, side: int, near: float
) -> Tensor:
    """[B, N] float: 1 where a match is near its true place, 0 where not, -1 where there is none.

    Args:
        match: [B, N] of the ``side^2`` positions of the first view, places in the second.
        box: of each view: top, left, height, width.
        flip: of each view.
        side: of the grids.
        near: in positions.
    """
    grid = (torch.arange(side) + 0.5) / side
    v, u = torch.meshgrid(grid, grid, indexing="ij")
    v, u = v.flatten(), u.flatten()
    across = torch.where(flip[0][:, None], 1 - u, u.expand(len(match), -1))
    row = box[0][:, :1] + v * box[0][:, 2:3]
    column = box[0][:, 1:2] + across * box[0][:, 3:]
    down = (row - box[1][:, :1]) / box[1][:, 2:3]
    right = (column - box[1][:, 1:2]) / box[1][:, 3:]
    right = torch.where(flip[1][:, None], 1 - right, right)
    shown = (down > 0) & (down < 1) & (right > 0) & (right < 1)
    off = torch.stack([down - v[match], right - u[match]]).mul(side).norm(dim=0)
    return torch.where(shown, (off <= near).float(), -1.0)
