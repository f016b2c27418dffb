"""SimSiam: Exploring Simple Siamese Representation Learning (2011.10566)."""

from __future__ import annotations

from functools import partial
from typing import final

import torch
from torch import Tensor

from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.torchvision_data import ImageNet
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import small_resnet, timm_encoder
from unlabeled.losses.distillation import negative_cosine
from unlabeled.method import Batch, Method
from unlabeled.nn.heads import mlp
from unlabeled.recipe import PLAIN_1D, Optim, Recipe, Rule
from unlabeled.schedule import constant, cosine
from unlabeled.views.image import TwoViews, moco_v2_augment
from unlabeled.views.mild import mild_augment


@final
class SimSiam(Method):
    """A predictor maps each view to the other; the other side gets no gradient.

    Algorithm 1: ``z = f(x)`` (encoder and projector), ``p = h(z)``,
    ``L = D(p1, stopgrad(z2)) / 2 + D(p2, stopgrad(z1)) / 2`` with D the negative cosine.

    Args:
        encoder: the backbone of f.
        dim: width of z and of the projector's hidden layers (section 3, projection MLP).
        bottleneck: hidden width of the predictor (section 3, prediction MLP).
    """

    def __init__(self, encoder: Encoder, *, dim: int = 2048, bottleneck: int = 512) -> None:
        super().__init__(encoder)
        # the norm without scale and center cancels a bias before it
        self.projector = mlp(encoder.dim, dim, dim, dim, last_bias=False, last_norm="plain")
        self.predictor = mlp(dim, bottleneck, dim)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """From -1 (each view predicts the other) to 1."""
        z1, z2 = (self.projector(self.encoder(x)) for x in batch["views"])
        p1, p2 = self.predictor(z1), self.predictor(z2)
        # the loss stops the gradient of its second argument
        return {"negative_cosine": (negative_cosine(p1, z2) + negative_cosine(p2, z1)) / 2}


def paper() -> Recipe:
    """ResNet-50, 100 epochs at batch 512 (section 3, baseline settings).

    SGD at 0.05 x batch / 256 with momentum 0.9, cosine to 0 without warm-up, weight decay 1e-4 on
    all parameters (section 3); the predictor's rate stays constant (section 4.2, table 1,
    row c); residual branches start at zero (official code).
    """
    return Recipe(
        method=partial(SimSiam),
        encoder=partial(timm_encoder, name="resnet50"),  # timm's starts its branches at zero
        data=ImageNet(),
        views=TwoViews(moco_v2_augment()),
        optim=Optim(
            kind=partial(torch.optim.SGD, momentum=0.9),
            lr=cosine(0.05),
            weight_decay=constant(1e-4),
            rules=(Rule(name="predictor.*", lr=constant(0.05)),),
        ),
        epochs=100,
        batch_size=512,
    )


def small() -> Recipe:
    """Minutes on two CPU cores; shows that it learns and says nothing about ImageNet."""
    return Recipe(
        method=partial(SimSiam, dim=512, bottleneck=128),
        encoder=partial(small_resnet),
        data=FashionMnist(),
        views=TwoViews(mild_augment()),
        optim=Optim(
            kind=torch.optim.AdamW,
            lr=cosine(2e-3, warmup=0.3),
            weight_decay=constant(0.02),
            rules=(
                Rule(name="predictor.*", one_dim=True, lr=constant(2e-3), decay=False, adapt=False),
                Rule(name="predictor.*", lr=constant(2e-3)),
                PLAIN_1D,
            ),
        ),
        epochs=2,
        batch_size=256,
        precision="auto",
    )
