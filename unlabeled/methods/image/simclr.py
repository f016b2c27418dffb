"""SimCLR: A Simple Framework for Contrastive Learning of Visual Representations (2002.05709)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.torchvision_data import ImageNet
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import small_resnet, timm_encoder
from unlabeled.losses.contrastive import nt_xent
from unlabeled.method import Batch, Method
from unlabeled.nn.heads import mlp
from unlabeled.nn.optim import Lars
from unlabeled.recipe import PLAIN_1D, Optim, Recipe
from unlabeled.schedule import constant, cosine
from unlabeled.views.image import TwoViews, simclr_augment
from unlabeled.views.mild import mild_augment


def nonlinear_head(width: int, dim: int) -> nn.Sequential:
    """Return g of section 2.1 as in the official code: every linear layer is batch-normalized.

    [B, width] -> [B, dim]; no biases, a scale but no center after the last layer, weights from
    N(0, 0.01^2).
    """
    head = mlp(width, width, dim, last_bias=False, last_norm="scale")
    for layer in head:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
    return head


@final
class SimCLR(Method):
    """Two views of an image attract each other, all other views in the batch repel.

    Algorithm 1: ``h = f(x)``, ``z = g(h)``, and NT-Xent over the 2N views of all ranks.

    Args:
        encoder: f.
        head: builds g from (width, dim).
        dim: width of z (section 2.3).
        temperature: of NT-Xent (table 5).
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        head: Callable[[int, int], nn.Module] = nonlinear_head,
        dim: int = 128,
        temperature: float = 0.1,
    ) -> None:
        super().__init__(encoder)
        self.projector = head(encoder.dim, dim)
        self.temperature = temperature

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """NT-Xent; both views pass the network as one batch, as in the official code."""
        h = self.encoder(torch.cat(batch["views"]))
        z1, z2 = self.projector(h).chunk(2)
        return {"nt_xent": nt_xent(z1, z2, temperature=self.temperature)}


def paper() -> Recipe:
    """ResNet-50, 1000 epochs at batch 4096 (section 6, table 6).

    LARS at 0.3 x 4096 / 256 = 4.8 with weight decay 1e-6, ten epochs of warm-up, then a cosine
    to 0, temperature 0.1, 128 dimensions (sections 2.2, 2.3; table 5); views of appendix A;
    residual branches start at zero, norms and biases are excluded from decay and adaptation
    (official code).
    """
    return Recipe(
        method=partial(SimCLR),
        encoder=partial(timm_encoder, name="resnet50"),  # timm's starts its branches at zero
        data=ImageNet(),
        views=TwoViews(simclr_augment()),
        optim=Optim(
            kind=Lars,
            lr=cosine(0.3, warmup=10),
            weight_decay=constant(1e-6),
            rules=(PLAIN_1D,),
        ),
        epochs=1000,
        batch_size=4096,
    )


def small() -> Recipe:
    """Minutes on two CPU cores; shows that it learns and says nothing about ImageNet."""
    return Recipe(
        method=partial(SimCLR, temperature=0.1),
        encoder=partial(small_resnet),
        data=FashionMnist(),
        views=TwoViews(mild_augment()),
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
