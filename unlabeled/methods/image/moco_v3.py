"""MoCo v3: An Empirical Study of Training Self-Supervised Vision Transformers (2104.02057)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.torchvision_data import ImageNet
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import small_resnet, torchvision_encoder
from unlabeled.encoders.sincos_vit import sincos_vit
from unlabeled.method import Batch, Method
from unlabeled.nn.ema import Ema
from unlabeled.nn.heads import mlp
from unlabeled.nn.optim import Lars
from unlabeled.ops.gather import gather, rank
from unlabeled.ops.precision import autocast_off
from unlabeled.ops.similarity import cosines
from unlabeled.recipe import PLAIN_1D, Optim, Recipe
from unlabeled.schedule import constant, cosine, warm_cosine
from unlabeled.views.image import TwoViews, byol_augments
from unlabeled.views.mild import mild_augment

if TYPE_CHECKING:
    from jaxtyping import Float

Heads = Callable[[int, int, int], tuple[nn.Module, nn.Module]]
"""(width, hidden, dim) -> projector [B, width] -> [B, dim] and predictor [B, dim] -> [B, dim]."""


def vit_heads(width: int, hidden: int, dim: int) -> tuple[nn.Module, nn.Module]:
    """Three layers and two, no biases, batch norm after each, without affine at the outputs."""
    projector = mlp(width, hidden, hidden, dim, last_bias=False, last_norm="plain")
    return projector, mlp(dim, hidden, dim, last_bias=False, last_norm="plain")


def resnet_heads(width: int, hidden: int, dim: int) -> tuple[nn.Module, nn.Module]:
    """Two layers and two; the predictor has no batch norm at its output (authors' code)."""
    projector = mlp(width, hidden, dim, last_bias=False, last_norm="plain")
    return projector, mlp(dim, hidden, dim, last_bias=False)


@final
class MoCoV3(Method):
    """The prediction of one view finds the other view's key among the keys of the batch.

    Algorithm 1: ``q = predict(project(f(x)))``, ``k`` from the moving average of encoder and
    projector, and ``ctr(q1, k2) + ctr(q2, k1)``. No queue: negatives are the batch of all ranks.
    Vision transformers keep their random patch projection, which is the encoder's affair
    (`sincos_vit`, section 4.2).

    Args:
        encoder: f.
        heads: builds projector and predictor from (width, hidden, dim) (section 3).
        hidden: width of their hidden layers.
        dim: width of queries and keys.
        momentum: the teacher's at the start; it rises to 1 over the run,
            ``1 - (1 - momentum) (1 + cos(pi progress)) / 2`` (section 3 and authors' code).
        temperature: tau of both terms.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        heads: Heads = vit_heads,
        hidden: int = 4096,
        dim: int = 256,
        momentum: float = 0.99,
        temperature: float = 0.2,
    ) -> None:
        super().__init__(encoder)
        self.projector, self.predictor = heads(encoder.dim, hidden, dim)
        self.teacher = Ema(self.student)
        self.momentum, self.temperature = momentum, temperature

    @property
    def student(self) -> nn.Sequential:
        """The network whose moving average makes the keys; the predictor is no part of it."""
        return nn.Sequential(self.encoder, self.projector)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """``ctr(q1, k2) + ctr(q2, k1)``: 4 tau log N for N equal keys."""
        x1, x2 = batch["views"]
        q1, q2 = self.predictor(self.student(x1)), self.predictor(self.student(x2))
        k1, k2 = self.teacher(x1), self.teacher(x2)
        t = self.temperature
        return {"info_nce": contrast(q1, k2, temperature=t) + contrast(q2, k1, temperature=t)}

    def after_step(self) -> None:
        """Move the teacher."""
        self.teacher.update(self.student, momentum=cosine(self.momentum, 1.0)(self.clock))


def contrast(
    q: Float[Tensor, "B D"], k: Float[Tensor, "B D"], *, temperature: float
) -> Float[Tensor, ""]:
    """Contrast each query with its key among the keys of all ranks.

    ``2 t (-1/B sum_i log exp(q_i.k_i / t) / sum_j exp(q_i.k_j / t))`` of unit vectors: the factor
    makes the gradient's size independent of the temperature (algorithm 1). k gets no gradient.

    Raises:
        ValueError: the temperature is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}: give a value above 0")
    own = rank() * len(q) + torch.arange(len(q), device=q.device)
    with autocast_off(q):
        logits = cosines(q, gather(k.detach())) / temperature
        return 2 * temperature * F.cross_entropy(logits, own)


def paper() -> Recipe:
    """ViT-B/16, 300 epochs at batch 4096 (sections 3 and 5).

    AdamW at 1.5e-4 x batch / 256 with weight decay 0.1 on all parameters, 40 epochs of warm-up,
    then a cosine to 0; temperature 0.2, teacher momentum from 0.99; BYOL's pair of views, cropped
    bilinearly (authors' code).
    """
    return Recipe(
        method=partial(MoCoV3),
        encoder=partial(sincos_vit, dim=768, depth=12, heads=12, patch=16),
        data=ImageNet(),
        views=_pair(scale=(0.08, 1.0)),
        optim=Optim(
            kind=torch.optim.AdamW,
            lr=warm_cosine(1.5e-4, warmup=40 / 300),
            weight_decay=constant(0.1),
        ),
        epochs=300,
        batch_size=4096,
    )


def bn_paper() -> Recipe:
    """ViT-BN-L/7: patches of 7 px, batch norm before each MLP (section 5, the best figure)."""
    large = partial(sincos_vit, dim=1024, depth=24, heads=16, patch=7, batchnorm=True)
    return replace(paper(), encoder=large)


def resnet_paper() -> Recipe:
    """ResNet-50, 1000 epochs at batch 4096 (authors' configuration).

    LARS at 0.3 x batch / 256 with weight decay 1.5e-6 (none, and no adaptation, for biases and
    norms), ten epochs of warm-up, temperature 1, teacher momentum from 0.996, crops from 20 %.
    """
    return replace(
        paper(),
        method=partial(MoCoV3, heads=resnet_heads, momentum=0.996, temperature=1.0),
        encoder=partial(torchvision_encoder, name="resnet50"),
        views=_pair(scale=(0.2, 1.0)),
        optim=Optim(
            kind=Lars,
            lr=cosine(0.3, warmup=10),
            weight_decay=constant(1.5e-6),
            rules=(PLAIN_1D,),
        ),
        epochs=1000,
    )


def _pair(*, scale: tuple[float, float]) -> TwoViews:
    first, second = byol_augments()
    return TwoViews(
        replace(first, scale=scale, interpolation="bilinear"),
        replace(second, scale=scale, interpolation="bilinear"),
    )


def small() -> Recipe:
    """Minutes on two CPU cores, in the paper's form for ResNets; says nothing about ImageNet."""
    return Recipe(
        method=partial(
            MoCoV3, heads=resnet_heads, hidden=512, dim=128, momentum=0.98, temperature=0.2
        ),
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


def vit_small() -> Recipe:
    """The form for vision transformers: patches of 4 px, fixed projection and positions.

    With heads 512-512-128 and a warm-up of a tenth; a transformer wants more epochs than `small`.
    """
    return replace(
        small(),
        method=partial(MoCoV3, hidden=512, dim=128, momentum=0.98),
        encoder=partial(sincos_vit, dim=192, depth=6, heads=6, patch=4),
        optim=Optim(
            kind=torch.optim.AdamW, lr=warm_cosine(5e-4, warmup=0.1), weight_decay=constant(0.1)
        ),
        epochs=20,
    )
