"""Jigsaw: Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles.

arXiv:1603.09246. A permutation of the tiles of an image is recognized.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.torchvision_data import ImageNet
from unlabeled.encoders.alexnet import alexnet
from unlabeled.encoders.backbone import ImageEncoder
from unlabeled.encoders.image import small_resnet, torchvision_encoder
from unlabeled.evaluators.knn import Knn
from unlabeled.evaluators.layers import Layers
from unlabeled.evaluators.linear import Linear
from unlabeled.evaluators.pretext import Pretext
from unlabeled.method import Batch, Method
from unlabeled.nn.heads import mlp
from unlabeled.ops.precision import upcast
from unlabeled.recipe import PLAIN_1D, Optim, Recipe, Rule
from unlabeled.schedule import constant, cosine, steps, warm_steps
from unlabeled.views.augment import Augment
from unlabeled.views.puzzles import Puzzles

if TYPE_CHECKING:
    from jaxtyping import Float


def dropped_layer(width: int, dim: int) -> nn.Sequential:
    """fc6 and fc7: linear, ReLU, dropout 0.5; N(0, 0.005^2), bias 1 (official code)."""
    linear = nn.Linear(width, dim)
    nn.init.normal_(linear.weight, std=0.005)
    nn.init.ones_(linear.bias)
    return nn.Sequential(linear, nn.ReLU(inplace=True), nn.Dropout(0.5))


def normed_layer(width: int, dim: int) -> nn.Sequential:
    """Linear, batch norm, ReLU."""
    linear = nn.Linear(width, dim, bias=False)
    return nn.Sequential(linear, nn.BatchNorm1d(dim), nn.ReLU(inplace=True))


def deep_head(width: int, permutations: int, *, hidden: int = 4096) -> nn.Sequential:
    """fc7 and fc8."""
    last = nn.Linear(hidden, permutations)
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*dropped_layer(width, hidden), last)


def normed_head(width: int, permutations: int, *, hidden: int) -> nn.Sequential:
    """fc7, batch-normalized, and fc8."""
    return mlp(width, hidden, permutations)


def linear_head(width: int, permutations: int) -> nn.Sequential:
    """fc8 alone."""
    return mlp(width, permutations)


@final
class Jigsaw(Method):
    """Recognizes which of P permutations shuffled the tiles of an image.

    The context-free network: one trunk sees each tile apart from the others, and only the last
    layers compare tiles. ``h_i = fc6(trunk(x_i))`` for the tile at each place i, then cross-entropy
    of ``fc8(fc7([h_1, ..., h_9]))`` with the permutation's number y (sections 3.1 and 3.2).

    Args:
        encoder: the trunk, with a grid of positions.
        permutations: P, the ``count`` of the views.
        tiles: of a puzzle.
        cells: fc6 sees the trunk's map averaged over cells x cells; AlexNet's map of a tile of
            64 px has 3 x 3 positions, and 1 is global average pooling.
        tile_layer: builds fc6 from (width, dim).
        tile_dim: width of fc6.
        head: builds what follows it from (width, permutations).
    """

    encoder: ImageEncoder

    def __init__(
        self,
        encoder: ImageEncoder,
        *,
        permutations: int = 1000,
        tiles: int = 9,
        cells: int = 3,
        tile_layer: Callable[[int, int], nn.Module] = dropped_layer,
        tile_dim: int = 512,
        head: Callable[[int, int], nn.Module] = deep_head,
    ) -> None:
        super().__init__(encoder)
        self.cells = cells
        self.tile_layer = tile_layer(encoder.local_dim * cells**2, tile_dim)
        self.head = head(tiles * tile_dim, permutations)

    def solve(self, tiles: Float[Tensor, "B n C t t"]) -> Float[Tensor, "B P"]:
        """Logits of the permutations."""
        maps = self.encoder.maps(tiles.flatten(0, 1))
        h = self.tile_layer(F.adaptive_avg_pool2d(maps, self.cells).flatten(1))
        return self.head(h.view(len(tiles), -1))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy with the number of the permutation."""
        (tiles,), (order,) = batch["views"], batch["order"]
        return {"cross_entropy": F.cross_entropy(upcast(self.solve(tiles)), order)}

    def predictors(self) -> dict[str, Callable[..., Any]]:
        """``embed``: the trunk; ``solve``: logits of the permutations."""
        return {"embed": self.encoder, "solve": self.solve}


def random_square(side: int, *, of: int, flip: float = 0.0, gray: float) -> Augment:
    """A random square of ``side`` px of an image of ``of`` px."""
    return Augment(size=side, scale=((side / of) ** 2,) * 2, ratio=(1.0, 1.0), flip=flip, gray=gray)


def judged(views: Puzzles) -> tuple[Any, ...]:
    """How well puzzles are solved, and what the trunk's layers are good for."""
    return Knn(), Linear(), Layers(), Pretext(views=views, answer="order")


def paper() -> Recipe:
    """AlexNet on 1,000 permutations, 350,000 steps at batch 256 (sections 3.2 and 4).

    Tiles of 64 px from cells of 75 px, 30 % of the images gray, channels moved by up to 2 px; SGD
    with momentum 0.9 at 0.01, times 0.1 each 100,000 steps; weight decay 5e-4 on weights, biases at
    twice the rate (official code).
    """
    views = Puzzles(random_square(225, of=256, gray=0.3))
    return Recipe(
        method=partial(Jigsaw),
        encoder=partial(alexnet),
        data=ImageNet(),
        views=views,
        optim=Optim(
            kind=partial(torch.optim.SGD, momentum=0.9),
            lr=steps(0.01, at=(100 / 350, 200 / 350, 300 / 350)),
            weight_decay=constant(5e-4),
            rules=(Rule(one_dim=True, lr_scale=2.0, decay=False),),
        ),
        epochs=70,
        batch_size=256,
        evaluate=judged(views),
    )


def resnet_paper() -> Recipe:
    """ResNet-50 on 2,000 permutations, the list's figure (Goyal et al. 2019, arXiv:1905.01235).

    Tiles of 64 px from cells of 85 px, 66 % of the images gray; SGD at 0.1 per 256 images, a
    warm-up of 5 epochs, times 0.1 at 30, 60, 90 and 100 of 105 epochs, weight decay 1e-4.
    """
    views = Puzzles(
        random_square(255, of=256, flip=0.5, gray=0.66), tile=64 / 85, count=2000, shift=0
    )
    return replace(
        paper(),
        method=partial(
            Jigsaw,
            permutations=2000,
            cells=1,
            tile_layer=normed_layer,
            tile_dim=1000,
            head=linear_head,
        ),
        encoder=partial(torchvision_encoder, name="resnet50"),
        views=views,
        optim=Optim(
            kind=partial(torch.optim.SGD, momentum=0.9),
            lr=warm_steps(0.1, at=(30 / 105, 60 / 105, 90 / 105, 100 / 105), warmup=5),
            weight_decay=constant(1e-4),
        ),
        epochs=105,
        evaluate=judged(views),
    )


def small() -> Recipe:
    """Minutes on two CPU cores; shows that it learns and says nothing about ImageNet."""
    views = Puzzles(Augment(size=36, scale=(0.5, 1.0)), tile=10 / 12, count=100)
    return Recipe(
        method=partial(
            Jigsaw,
            permutations=100,
            tile_layer=normed_layer,
            tile_dim=64,
            head=partial(normed_head, hidden=256),
        ),
        encoder=partial(small_resnet, widths=(32, 64), blocks=(1, 1)),
        data=FashionMnist(),
        views=views,
        optim=Optim(
            kind=torch.optim.AdamW,
            lr=cosine(2e-3, warmup=0.1),
            lr_per=None,
            weight_decay=constant(0.02),
            rules=(PLAIN_1D,),
        ),
        epochs=1,
        batch_size=128,
        precision="auto",
        evaluate=judged(views),
    )
