"""BYOL: Bootstrap Your Own Latent, A New Approach to Self-Supervised Learning (2006.07733)."""

from __future__ import annotations

from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.torchvision_data import ImageNet
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import small_resnet, torchvision_encoder
from unlabeled.losses.distillation import regression
from unlabeled.method import Batch, Method
from unlabeled.nn.ema import Ema
from unlabeled.nn.heads import mlp
from unlabeled.nn.optim import Lars
from unlabeled.recipe import PLAIN_1D, Optim, Recipe
from unlabeled.schedule import constant, cosine
from unlabeled.views.image import TwoViews, byol_augments
from unlabeled.views.mild import mild_augment


@final
class BYOL(Method):
    """The online network predicts what a slowly moving target network makes of another view.

    Algorithm 1 (appendix A): online ``p = q(g(f(v)))``, target ``z' = g'(f'(v'))``, and the sum
    of both directions. Only the online network predicts.

    Args:
        encoder: f.
        hidden: hidden width of projector and predictor (section 3.2).
        dim: their output width (section 3.2).
        momentum: the target's at the start; it rises to 1 over the run,
            ``1 - (1 - momentum) (cos(pi step / steps) + 1) / 2`` (section 3.2).
    """

    def __init__(
        self, encoder: Encoder, *, hidden: int = 4096, dim: int = 256, momentum: float = 0.996
    ) -> None:
        super().__init__(encoder)
        self.projector = mlp(encoder.dim, hidden, dim, hidden_bias=True, last_bias=False)
        self.predictor = mlp(dim, hidden, dim, hidden_bias=True, last_bias=False)
        self.teacher = Ema(self.student)
        self.momentum = momentum

    @property
    def student(self) -> nn.Sequential:
        """The part of the online network that the target is the moving average of."""
        return nn.Sequential(self.encoder, self.projector)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Squared distance of unit vectors, summed over both directions: 4 at random, 0 at best."""
        x1, x2 = batch["views"]
        p1, p2 = self.predictor(self.student(x1)), self.predictor(self.student(x2))
        z1, z2 = self.teacher(x1), self.teacher(x2)
        return {"regression": regression(p1, z2) + regression(p2, z1)}

    def after_step(self) -> None:
        """Move the target."""
        self.teacher.update(self.student, momentum=cosine(self.momentum, 1.0)(self.clock))


def paper() -> Recipe:
    """ResNet-50, 1000 epochs at batch 4096 (section 3.2).

    LARS at 0.2 x batch / 256 with weight decay 1.5e-6 (none, and no adaptation, for biases and
    norms), ten epochs of warm-up, then a cosine to 0; target momentum from 0.996 (section 3.2);
    views of appendix B, table 6.
    """
    return Recipe(
        method=partial(BYOL),
        encoder=partial(torchvision_encoder, name="resnet50"),
        data=ImageNet(),
        views=TwoViews(*byol_augments()),
        optim=Optim(
            kind=Lars,
            lr=cosine(0.2, warmup=10),
            weight_decay=constant(1.5e-6),
            rules=(PLAIN_1D,),
        ),
        epochs=1000,
        batch_size=4096,
    )


def small() -> Recipe:
    """Minutes on two CPU cores; shows that it learns and says nothing about ImageNet."""
    return Recipe(
        method=partial(BYOL, hidden=512, dim=128, momentum=0.98),
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
