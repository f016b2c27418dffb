"""Superpixels by SLIC: k-means of color and place, each pixel among the nine cells around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int


def superpixels(
    images: Float[Tensor, "B C H W"], *, count: int, color: float = 10.0, rounds: int = 5
) -> Int[Tensor, "B H W"]:
    """Divide each image into about ``count`` parts of like color (Achanta et al. 2012).

    ``|color difference|^2 color^2 + |distance|^2 / cell^2`` is least for a pixel's own part. The
    first parts are the cells of a grid; parts need not be connected.

    Args:
        images: in [0, 1].
        count: of parts, about.
        color: how much color counts against distance.
        rounds: of k-means.

    Returns:
        The number of each pixel's part.
    """
    batch, channels, height, width = images.shape
    side = (height * width / count) ** 0.5
    rows, columns = max(1, round(height / side)), max(1, round(width / side))
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    cell = ((v * rows // height) * columns + u * columns // width).to(images.device).flatten()
    place = torch.stack([v, u]).to(images).div(side).expand(batch, -1, -1, -1)
    points = torch.cat([images * color, place], 1).flatten(2).mT  # [B, H W, C + 2]
    steps = torch.tensor([-1, 0, 1], device=images.device)
    near_row = (cell // columns)[:, None] + steps.repeat_interleave(3)
    near_column = (cell % columns)[:, None] + steps.repeat(3)
    # beyond the border: the own cell once more
    there = (near_row >= 0) & (near_row < rows) & (near_column >= 0) & (near_column < columns)
    near = torch.where(there, near_row * columns + near_column, cell[:, None])  # [H W, 9]
    label = cell.expand(batch, -1)
    for _ in range(rounds):
        total = points.new_zeros(batch, rows * columns, channels + 2)
        total.scatter_add_(1, label[..., None].expand_as(points), points)
        size = points.new_zeros(batch, rows * columns).scatter_add_(
            1, label, torch.ones_like(points[..., 0])
        )
        center = total / size.clamp_min(1)[..., None]
        apart = (points[:, :, None] - center[:, near]).square().sum(-1)
        # a part that lost all its pixels attracts none
        apart = apart.masked_fill(size[:, near] == 0, torch.inf)
        label = near.expand(batch, -1, -1).gather(2, apart.argmin(2, keepdim=True))[..., 0]
    return label.view(batch, height, width)
