"""SEER: Self-supervised Pretraining of Visual Features in the Wild (2103.01988).

SwAV (`swav`) on RegNetY, in one pass over images that nobody has chosen.
"""

from __future__ import annotations

from functools import partial

import torch

from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.torchvision_data import ImageNet
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import timm_encoder
from unlabeled.encoders.regnet import recomputed, regnet_y
from unlabeled.methods.image.swav import SwAV
from unlabeled.nn.heads import mlp
from unlabeled.nn.optim import Larc
from unlabeled.recipe import PLAIN_1D, Optim, Recipe
from unlabeled.schedule import constant, cosine
from unlabeled.views.image import simclr_augment
from unlabeled.views.mild import mild_augment
from unlabeled.views.multicrop import MultiCrop

STEPS, WARMUP = 122_000, 8_000
"""Updates of the one pass over a billion images, and those in which the rate rises (section 3)."""


def swav_at_scale(
    encoder: Encoder,
    *,
    hidden: int = 8192,
    dim: int = 256,
    prototypes: int = 16_000,
    iterations: int = 10,
    freeze_steps: int = 313,
) -> SwAV:
    """Return SwAV with a head of three layers without batch norm, and no queue.

    Width - hidden - hidden - dim, ReLU between (official heads of 16,000 prototypes; section 3).

    Args:
        encoder: takes images of every size that the views have.
        hidden: width of both hidden layers.
        dim: width of the features that are compared with prototypes.
        prototypes: how many; twice the batch.
        iterations: of Sinkhorn-Knopp.
        freeze_steps: steps during which the prototypes do not learn.
    """
    method = SwAV(
        encoder,
        hidden=hidden,
        dim=dim,
        prototypes=prototypes,
        iterations=iterations,
        freeze_steps=freeze_steps,
    )
    method.projector = mlp(encoder.dim, hidden, hidden, dim, hidden_norm=False, hidden_bias=True)
    return method


def paper() -> Recipe:
    """RegNetY-256GF (1.3 billion parameters with the head), one pass at batch 8192 (section 3).

    2 x 224 + 4 x 96 crops; SGD with LARC, weight decay 1e-5, the rate from 0.15 to 9.6 over the
    first 8,000 of 122,000 updates, then a cosine to 0.0096; half precision; the stages of the
    encoder are computed again in the backward pass. Schedules count updates: an epoch is the whole
    stream. Its images are private: give your own as tar shards, ``--data shards/``.
    """
    return Recipe(
        method=partial(swav_at_scale),
        encoder=partial(recomputed, encoder=partial(timm_encoder, name="regnety_2560")),
        data=ImageNet(),
        views=MultiCrop(
            simclr_augment(scale=(0.14, 1.0), interpolation="bilinear"),
            simclr_augment(scale=(0.05, 0.14), interpolation="bilinear"),
            small_count=4,
        ),
        optim=Optim(
            kind=Larc,
            lr=cosine(9.6, 0.0096, warmup=WARMUP / STEPS, warmup_from=0.15),
            lr_per=8192,
            weight_decay=constant(1e-5),
        ),
        epochs=1,
        batch_size=8192,
        precision="16-mixed",
    )


def small() -> Recipe:
    """Minutes on two CPU cores, each image once; says nothing about images in the wild."""
    return Recipe(
        method=partial(swav_at_scale, hidden=512, dim=64, prototypes=300, freeze_steps=30),
        encoder=partial(regnet_y),
        data=FashionMnist(),
        views=MultiCrop(
            mild_augment(),
            mild_augment(scale=(0.1, 0.3)),
            small_count=4,
            small_size_ratio=4 / 7,
        ),
        optim=Optim(
            kind=torch.optim.AdamW,
            lr=cosine(2e-3, warmup=WARMUP / STEPS),
            weight_decay=constant(0.02),
            rules=(PLAIN_1D,),
        ),
        epochs=1,
        batch_size=256,
        precision="auto",
    )
