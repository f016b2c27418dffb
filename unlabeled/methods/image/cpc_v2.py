"""CPC v2: Data-Efficient Image Recognition with Contrastive Predictive Coding (1905.09272)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.torchvision_data import ImageNet
from unlabeled.encoders.patches import PatchEncoder, layer_norm, patch_resnet
from unlabeled.method import Batch, Method
from unlabeled.nn.context import RowContext
from unlabeled.nn.predictors import StepPredictors
from unlabeled.recipe import PLAIN_1D, Optim, Recipe
from unlabeled.schedule import constant, cosine
from unlabeled.views.augment import Augment
from unlabeled.views.patches import Patches


def from_above(z: Tensor) -> Tensor:
    """Return the grid as it is: the context lies above what it predicts."""
    return z


def from_below(z: Tensor) -> Tensor:
    """Return the grid with its last row on top."""
    return z.flip(2)


def from_left(z: Tensor) -> Tensor:
    """Return the grid with its first column on top."""
    return z.transpose(2, 3)


def from_right(z: Tensor) -> Tensor:
    """Return the grid with its last column on top."""
    return z.flip(3).transpose(2, 3)


DIRECTIONS = (from_above, from_below, from_left, from_right)


@final
class CPCv2(Method):
    """CPC from four sides, over patches that are changed one by one, with layer norm.

    For each direction its own context and predictors, for all of them one projection of the
    targets: InfoNCE of ``0.1 (W c + b)`` with the projected latent ``nearest`` to ``farthest``
    rows further on, against those of all patches of all images (section 2.2, appendix A).

    Args:
        encoder: its latents lie on a grid; it must not be batch-normalized.
        context: builds a context, which must not see rows below, from the width of z.
        dim: width of targets and predictions.
        scale: multiplies the predictions.
        nearest: rows to the first one that is predicted; nearer ones share pixels with the context.
        farthest: rows to the last one that is predicted, where the grid has it.
    """

    encoder: PatchEncoder

    def __init__(
        self,
        encoder: PatchEncoder,
        *,
        context: Callable[[int], nn.Module] = RowContext,
        dim: int = 64,
        scale: float = 0.1,
        nearest: int = 3,
        farthest: int = 3,
    ) -> None:
        super().__init__(encoder)
        steps = range(nearest, min(farthest, encoder.rows - 1) + 1)
        self.target = nn.Conv2d(encoder.dim, dim, 1)
        self.contexts = nn.ModuleList(context(encoder.dim) for _ in DIRECTIONS)
        self.futures = nn.ModuleList(
            StepPredictors(encoder.dim, dim, steps=steps, bias=True, scale=scale)
            for _ in DIRECTIONS
        )

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """InfoNCE a direction, the sum over steps; their mean is minimised."""
        (patches,) = batch["views"]
        z = self.encoder.maps(patches)
        targets = self.target(z)
        return {
            turn.__name__: future(context(turn(z)), turn(targets)).sum() / len(DIRECTIONS)
            for turn, context, future in zip(DIRECTIONS, self.contexts, self.futures, strict=True)
        }


def patch_color(*, strength: float = 1.0) -> Augment:
    """Color of each patch: jitter (0.4, 0.4, 0.4, 0.1) times ``strength``, gray 0.25."""
    return Augment(
        brightness=0.4 * strength,
        contrast=0.4 * strength,
        saturation=0.4 * strength,
        hue=0.1 * strength,
        gray=0.25,
    )


def paper() -> Recipe:
    """ResNet-50 with layer norm on 6 x 6 patches of 80 px, the list's figure (table 1).

    Patches of 80 px with a stride of 36 from crops of 260; Adam at 4e-4 with betas (0.8, 0.999),
    batch 512, gradients clipped (appendix A).
    """
    patch, stride = 80 / 260, 36 / 260
    return Recipe(
        method=partial(CPCv2),
        encoder=partial(
            patch_resnet,
            widths=(256, 512, 1024, 2048),
            blocks=(3, 4, 6, 3),
            hidden=(64, 128, 256, 512),
            norm=layer_norm,
            patch=patch,
            stride=stride,
        ),
        data=ImageNet(),
        views=Patches(
            Augment(size=260, scale=(0.75, 0.75), ratio=(1.0, 1.0)),
            patch_color(),
            patch=patch,
            stride=stride,
            warp=0.2,
            drop=1.0,
        ),
        optim=Optim(
            kind=partial(torch.optim.Adam, betas=(0.8, 0.999)), lr=constant(4e-4), lr_per=None
        ),
        epochs=200,
        batch_size=512,
        clip=0.01,
    )


def small() -> Recipe:
    """Minutes on two CPU cores; shows that it learns and says nothing about ImageNet."""
    patch, stride = 10 / 28, 6 / 28
    return Recipe(
        method=partial(
            CPCv2, context=partial(RowContext, hidden=32, blocks=3), nearest=2, farthest=3
        ),
        encoder=partial(
            patch_resnet,
            widths=(32, 128),
            blocks=(1, 1),
            hidden=None,
            stem_width=32,
            stem_kernel=3,
            stem_pool=False,
            norm=layer_norm,
            patch=patch,
            stride=stride,
        ),
        data=FashionMnist(),
        views=Patches(
            Augment(scale=(0.6, 1.0)),
            patch_color(strength=2.0),
            patch=patch,
            stride=stride,
            inner=0.9,
            warp=0.2,
            drop=1.0,
        ),
        optim=Optim(
            kind=partial(torch.optim.AdamW, betas=(0.8, 0.999)),
            lr=cosine(2e-3, warmup=0.3),
            lr_per=None,
            weight_decay=constant(0.02),
            rules=(PLAIN_1D,),
        ),
        epochs=0.5,
        batch_size=64,
        precision="auto",
    )
