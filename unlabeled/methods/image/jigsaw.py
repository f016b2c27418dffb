"""Jigsaw: Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles (1603.09246)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.encoders.backbone import ImageEncoder
from unlabeled.method import Batch, Method
from unlabeled.nn.heads import mlp
from unlabeled.ops.precision import upcast


@final
class Jigsaw(Method):
    encoder: ImageEncoder

    def __init__(
        self,
        encoder: ImageEncoder,
        *,
        permutations: int,
        tiles: int = 9,
        cells: int = 1,
        tile_layer=None,
        tile_dim=256,
        head=None,
    ) -> None:
        super().__init__(encoder)
        self.cells = cells
        self.tile_layer = tile_layer(encoder.local_dim * cells**2, tile_dim)
        self.head = head(tiles * tile_dim, permutations)

    def solve(self, tiles: Tensor) -> Tensor:
        maps = self.encoder.maps(tiles.flatten(0, 1))
        features = F.adaptive_avg_pool2d(maps, self.cells).flatten(1)
        return self.head(self.tile_layer(features).unflatten(0, tiles.shape[:2]).flatten(1))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        (tiles,), (order,) = batch["views"], batch["order"]
        return {"cross_entropy": F.cross_entropy(upcast(self.solve(tiles)), order)}

    def predictors(self) -> dict[str, Callable[..., Any]]:
        return {"embed": self.encoder, "solve": self.solve}


def nlayer(i,o): return nn.Sequential(nn.Linear(i,o,bias=False),nn.BatchNorm1d(o),nn.ReLU())
def nhead(i,o): return mlp(i,256,o)
def lhead(i,o): return mlp(i,o)
def n2layer(i,o): return nn.Sequential(*mlp(i,o,o), nn.BatchNorm1d(o),nn.ReLU())
