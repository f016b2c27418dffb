"""Barlow Twins: Self-Supervised Learning via Redundancy Reduction (2103.03230)."""

from __future__ import annotations

from functools import partial
from typing import final

import torch
from torch import Tensor

from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.torchvision_data import ImageNet
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import small_resnet, timm_encoder
from unlabeled.losses.redundancy import barlow_twins
from unlabeled.method import Batch, Method
from unlabeled.nn.heads import mlp
from unlabeled.nn.optim import Lars
from unlabeled.recipe import PLAIN_1D, Optim, Recipe, Rule
from unlabeled.schedule import constant, cosine
from unlabeled.views.image import TwoViews, barlow_augments
from unlabeled.views.mild import mild_augment


@final
class BarlowTwins(Method):
    """The cross-correlation of two views' embeddings becomes the identity.

    Algorithm 1. Both views get a gradient; there is no predictor, teacher or normalization along
    the features.

    Args:
        encoder: the network that is kept.
        dim: width of the embedding and of the projector's hidden layers (section 2.2).
        lambd: weight of the off-diagonal term (0.005 in section 2.2, 0.0051 in the code).
    """

    def __init__(self, encoder: Encoder, *, dim: int = 8192, lambd: float = 0.0051) -> None:
        super().__init__(encoder)
        self.projector = mlp(encoder.dim, dim, dim, dim, last_bias=False)
        self.lambd = lambd

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """``sum_i (1 - C_ii)^2 + lambd sum_{i != j} C_ij^2``."""
        z1, z2 = (self.projector(self.encoder(x)) for x in batch["views"])
        return {"barlow_twins": barlow_twins(z1, z2, lambd=self.lambd)}


def paper() -> Recipe:
    """ResNet-50, 1000 epochs at batch 2048 (section 2.2).

    LARS at 0.2 x batch / 256 for weights and 0.0048 x batch / 256 for biases and norms, which get
    neither decay nor adaptation; weight decay 1e-6 (official code), ten epochs of warm-up, then a
    cosine to a thousandth; 8192 dimensions (section 2.2); mixed precision and residual branches
    that start at zero (official code).
    """
    return Recipe(
        method=partial(BarlowTwins),
        encoder=partial(timm_encoder, name="resnet50"),  # timm's starts its branches at zero
        data=ImageNet(),
        views=TwoViews(*barlow_augments()),
        optim=Optim(
            kind=Lars,
            lr=cosine(0.2, 0.0002, warmup=10),
            weight_decay=constant(1e-6),
            rules=(Rule(one_dim=True, lr_scale=0.0048 / 0.2, decay=False, adapt=False),),
        ),
        epochs=1000,
        batch_size=2048,
        precision="16-mixed",
    )


def small() -> Recipe:
    """Minutes on two CPU cores; shows that it learns and says nothing about ImageNet."""
    return Recipe(
        method=partial(BarlowTwins, dim=512),
        encoder=partial(small_resnet),
        data=FashionMnist(),
        views=TwoViews(mild_augment(), mild_augment(solarize=0.2)),
        optim=Optim(
            kind=torch.optim.AdamW,
            lr=cosine(2e-3, warmup=0.3),
            weight_decay=constant(0.02),
            rules=(PLAIN_1D,),
        ),
        epochs=2,
        batch_size=256,
        precision="auto",
    )
