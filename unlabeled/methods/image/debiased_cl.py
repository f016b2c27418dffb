"""Debiased Contrastive Learning (2007.00224): SimCLR with a corrected negative term."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from unlabeled.data.torchvision_data import Torchvision
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import torchvision_encoder
from unlabeled.losses.debiased import debiased_nt_xent
from unlabeled.method import Batch, Method
from unlabeled.methods.image import simclr
from unlabeled.nn.heads import mlp
from unlabeled.recipe import Optim, Recipe
from unlabeled.schedule import constant
from unlabeled.views.image import TwoViews, moco_v2_augment


def narrow_head(width: int, dim: int) -> nn.Sequential:
    """[B, width] -> [B, dim]: 512 hidden units, batch norm and ReLU between (official code)."""
    return mlp(width, 512, dim)


@final
class DebiasedCL(Method):
    """Two views attract each other; what repels is the estimated mean over other classes.

    Random negatives are of the anchor's class with the probability ``prior``. The loss takes
    that part, which it estimates by the positives, off the negative term (section 4). Further
    views of a batch, if any, only make that estimate better: M is their number and 1.

    Args:
        encoder: f without its head.
        head: builds the head from (width, dim).
        dim: width of the embedding (official code).
        temperature: t (official code).
        prior: the probability that a random sample is of the anchor's class: 1 / C for C equally
            large classes.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        head: Callable[[int, int], nn.Module] = narrow_head,
        dim: int = 128,
        temperature: float = 0.5,
        prior: float = 0.1,
    ) -> None:
        super().__init__(encoder)
        self.projector = head(encoder.dim, dim)
        self.temperature, self.prior = temperature, prior

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Debiased NT-Xent; each view passes the network by itself, as in the official code."""
        z = [self.projector(self.encoder(view)) for view in batch["views"]]
        loss = debiased_nt_xent(*z, temperature=self.temperature, prior=self.prior)
        return {"debiased_nt_xent": loss}


def paper() -> Recipe:
    """ResNet-50 on CIFAR-10, 400 epochs at batch 256 (section 5.1 and the official code).

    Adam at 0.001 with decay 1e-6, temperature 0.5, prior 0.1, one positive; a stem of 3x3 with
    stride 1, no max-pool; crops of 32 px from 8 % of the area on, jitter (0.4, 0.4, 0.4, 0.1).
    """
    return Recipe(
        method=partial(DebiasedCL),
        encoder=partial(torchvision_encoder, name="resnet50", stem="small"),
        data=Torchvision("CIFAR10"),
        views=TwoViews(replace(moco_v2_augment(), scale=(0.08, 1.0))),
        optim=Optim(
            kind=torch.optim.Adam,
            lr=constant(1e-3),
            lr_per=None,
            weight_decay=constant(1e-6),
        ),
        epochs=400,
        batch_size=256,
    )


def small() -> Recipe:
    """Minutes on two CPU cores; shows that it learns and says nothing about ImageNet."""
    return replace(
        simclr.small(),
        method=partial(DebiasedCL, head=simclr.nonlinear_head, temperature=0.5, prior=0.1),
    )
