"""SSD: A Unified Framework for Self-Supervised Outlier Detection (ICLR 2021).

Nothing is new in the training: `SimCLR` on data without labels, or with labels SupCon's loss
(SSD+). What the paper adds is how the features are read, `evaluators.outliers.Outliers`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from unlabeled.data.class_part import ClassPart
from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.torchvision_data import Torchvision
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import small_resnet, torchvision_encoder
from unlabeled.evaluators.outliers import Outliers
from unlabeled.losses.multi_positive import multi_positive_nt_xent
from unlabeled.method import Batch, Method
from unlabeled.methods.image.simclr import SimCLR
from unlabeled.nn.heads import mlp
from unlabeled.ops.gather import gather
from unlabeled.recipe import PLAIN_1D, Optim, Recipe
from unlabeled.schedule import constant, cosine
from unlabeled.views.augment import Augment
from unlabeled.views.image import TwoViews
from unlabeled.views.mild import mild_augment


def plain_head(width: int, dim: int) -> nn.Sequential:
    """[B, width] -> [B, dim]: Linear, ReLU, Linear, without batch norm."""
    return mlp(width, width, dim, hidden_norm=False, hidden_bias=True)


@final
class LabeledContrast(Method):
    """SSD+: all views of the anchor's class attract it (SupCon's L_out, arXiv:2004.11362, eq. 2).

    Args:
        encoder: f.
        head: builds h from (width, dim).
        dim: width of the head's output.
        temperature: T (section 4.1).
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        head: Callable[[int, int], nn.Module] = plain_head,
        dim: int = 128,
        temperature: float = 0.5,
    ) -> None:
        super().__init__(encoder)
        self.projector = head(encoder.dim, dim)
        self.temperature = temperature

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Reads the labels."""
        z1, z2 = self.projector(self.encoder(torch.cat(batch["views"]))).chunk(2)
        label = batch["label"]
        same = (label[:, None] == gather(label)).to(z1.dtype).repeat(2, 1)
        return {"sup_con": multi_positive_nt_xent(z1, z2, same, temperature=self.temperature)}


def paper_augment() -> Augment:
    """The views of the official code: crops of at least a fifth, jitter 0.4, no blur."""
    return Augment(
        scale=(0.2, 1.0),
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
        jitter=0.8,
        gray=0.2,
    )


def paper() -> Recipe:
    """CIFAR-10 in distribution, ResNet-50 with the small stem, 500 epochs at batch 512 (section 4).

    SGD at 0.5, ten epochs of warm-up, cosine, T = 0.5. Here classes 0 to 4 are in and the rest
    out, so that one data set is enough.
    """
    return Recipe(
        method=partial(SimCLR, head=plain_head, temperature=0.5),
        encoder=partial(torchvision_encoder, name="resnet50", stem="small"),
        data=ClassPart(Torchvision("CIFAR10"), keep=(0, 1, 2, 3, 4)),
        views=TwoViews(paper_augment()),
        optim=Optim(
            kind=partial(torch.optim.SGD, momentum=0.9),
            lr=cosine(0.5, warmup=10),
            lr_per=None,
            weight_decay=constant(1e-4),
        ),
        epochs=500,
        batch_size=512,
        evaluate=(Outliers(augment=paper_augment()),),
    )


def small() -> Recipe:
    """Minutes on two CPU cores: five kinds of clothes in, five that look much like them out.

    T-shirt, trouser, pullover, sandal and sneaker in; dress, coat, shirt, bag and boot out.
    """
    return Recipe(
        method=partial(SimCLR, head=plain_head, temperature=0.5),
        encoder=partial(small_resnet),
        data=ClassPart(FashionMnist(), keep=(0, 1, 2, 5, 7)),
        views=TwoViews(mild_augment()),
        optim=Optim(
            kind=torch.optim.AdamW,
            lr=cosine(2e-3, warmup=0.3),
            weight_decay=constant(0.02),
            rules=(PLAIN_1D,),
        ),
        epochs=3,
        batch_size=256,
        evaluate=(Outliers(augment=mild_augment()),),
        precision="auto",
    )


def labeled() -> Recipe:
    """SSD+: small() with the labels of the five classes in distribution."""
    return replace(small(), method=partial(LabeledContrast))
