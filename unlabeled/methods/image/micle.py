"""MICLe: Big Self-Supervised Models Advance Medical Image Classification (2101.05224).

``domain`` to ``warm``, from SimCLR on ordinary images: SimCLR on those of the domain, then pairs of
images of one case. ``small`` is the last step alone.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import final

import torch
from torch import Tensor

from unlabeled.data.cases import CaseFolder, Photographed
from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.xrays import XRays
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import timm_encoder
from unlabeled.evaluators.tags import Tags
from unlabeled.losses.contrastive import nt_xent
from unlabeled.method import Batch, Method
from unlabeled.methods.image import simclr
from unlabeled.methods.image.simclr import nonlinear_head
from unlabeled.recipe import Recipe
from unlabeled.trained import Trained
from unlabeled.views.image import simclr_augment
from unlabeled.views.mild import mild_augment
from unlabeled.views.multi_instance import MultiInstance, SingleInstance


@final
class MICLe(Method):
    """NT-Xent over cases, from the encoder of a stage before.

    Algorithm 1: two distinct images of a case (two views of its image where it has one) attract
    each other, those of the other cases repel; a case occurs once in a batch, since a sample is a
    case. The head is new in every stage.

    Args:
        encoder: f.
        start: the run of the stage before, its batch norm statistics included; None keeps the
            weights as they are.
        dim: width of z.
        temperature: of NT-Xent.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        start: Trained | None,
        dim: int = 128,
        temperature: float = 0.1,
    ) -> None:
        super().__init__(encoder)
        if start is not None and not next(encoder.parameters()).is_meta:
            encoder.load_state_dict(start.weights())
        self.projector = nonlinear_head(encoder.dim, dim)
        self.temperature = temperature

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """NT-Xent; both views pass the network as one batch, as in SimCLR."""
        h = self.encoder(torch.cat(batch["views"]))
        z1, z2 = self.projector(h).chunk(2)
        return {"nt_xent": nt_xent(z1, z2, temperature=self.temperature)}


def generic_paper() -> Recipe:
    """Stage 1: SimCLR on ImageNet, ResNet-152, twice as wide."""
    wide = partial(timm_encoder, name="resnet152", width=2.0)
    return replace(simclr.paper(), encoder=wide)


def domain_paper() -> Recipe:
    """Stage 2: SimCLR on a photo of each case, from stage 1 (section 4).

    LARS by SimCLR's rule, 0.3 x batch / 256, batch 512, temperature 0.1, 100,000 steps.
    """
    return replace(
        generic_paper(),
        method=partial(MICLe, start=Trained(recipe="micle:generic_paper")),
        data=CaseFolder(),
        views=SingleInstance(simclr_augment()),
        batch_size=512,
        steps=100_000,
    )


def paper() -> Recipe:
    """Stage 3: pairs of images of a case, from stage 2, 100,000 steps at batch 128.

    The paper's cases are private; ``--data`` or ``data.root`` names a folder of cases.
    """
    return replace(
        domain_paper(),
        method=partial(MICLe, start=Trained(recipe="micle:domain_paper")),
        views=MultiInstance(simclr_augment()),
        batch_size=128,
    )


def small() -> Recipe:
    """The last stage from random weights, on drawn X-rays of 32 px; minutes on two CPU cores.

    Judged by the mean area under the ROC of five findings (section 4, CheXpert).
    """
    return replace(
        simclr.small(),
        method=partial(MICLe, start=None),
        data=XRays(),
        views=MultiInstance(mild_augment(scale=(0.6, 1.0), strength=0.4)),
        epochs=12,
        evaluate=(Tags(),),
    )


def domain() -> Recipe:
    """Stage 2 at small size: two views of one X-ray each, from `simclr.small`."""
    return replace(
        small(),
        method=partial(MICLe, start=Trained(recipe="simclr:small")),
        views=SingleInstance(mild_augment(scale=(0.6, 1.0), strength=0.4)),
    )


def warm() -> Recipe:
    """All stages at small size: the pairs of `small`, from `domain`."""
    recipe = small()
    return replace(recipe, method=partial(MICLe, start=Trained(recipe="micle:domain")))


def clothes() -> Recipe:
    """The pairs on real images: photographs of the articles of Fashion-MNIST."""
    return replace(
        simclr.small(),
        method=partial(MICLe, start=None),
        data=Photographed(FashionMnist()),
        views=MultiInstance(mild_augment()),
    )
