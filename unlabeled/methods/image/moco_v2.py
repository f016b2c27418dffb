"""MoCo v2: Improved Baselines with Momentum Contrastive Learning (2003.04297).

MoCo with a nonlinear head, stronger views, another temperature and a cosine schedule.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import nn

from unlabeled.methods.image import moco
from unlabeled.methods.image.moco import MoCo
from unlabeled.nn.heads import mlp
from unlabeled.recipe import Optim, Recipe
from unlabeled.schedule import constant, cosine
from unlabeled.views.image import TwoViews, moco_v2_augment


def mlp_head(width: int, dim: int) -> nn.Sequential:
    """[B, width] -> [B, dim]: two linear layers with biases, ReLU between, no norm (section 3)."""
    return mlp(width, width, dim, hidden_norm=False, hidden_bias=True)


def paper() -> Recipe:
    """MoCo's setting with the four changes, 800 epochs (table 2, row e).

    Head and temperature 0.2 (section 3, MLP head), views (section 3, augmentation), cosine
    learning rate from 0.03 (section 3); all else is MoCo's.
    """
    return replace(
        moco.paper(),
        method=partial(MoCo, head=mlp_head, temperature=0.2),
        views=TwoViews(moco_v2_augment()),
        optim=Optim(
            kind=partial(torch.optim.SGD, momentum=0.9),
            lr=cosine(0.03),
            weight_decay=constant(1e-4),
        ),
        epochs=800,
    )


def small() -> Recipe:
    """Minutes on two CPU cores; shows that it learns and says nothing about ImageNet."""
    return replace(
        moco.small(),
        method=partial(
            MoCo, head=mlp_head, queue=4096, momentum=0.99, temperature=0.2, batchnorm_splits=4
        ),
    )
