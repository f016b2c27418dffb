"""DINO: Emerging Properties in Self-Supervised Vision Transformers (2104.14294)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import groupby
from typing import Any, final

import torch
from torch import Tensor, nn

from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.torchvision_data import ImageNet
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.vit import VitEncoder, vit, without_drop_path
from unlabeled.evaluators.attention import AttentionOverlap
from unlabeled.losses.distillation import dino_cross_entropy
from unlabeled.method import Batch, Method
from unlabeled.nn.dino_head import DinoHead
from unlabeled.nn.ema import Ema
from unlabeled.nn.optim import ClippedAdamW
from unlabeled.ops.gather import all_sum, world_size
from unlabeled.ops.precision import upcast
from unlabeled.recipe import PLAIN_1D, Optim, Recipe
from unlabeled.schedule import Schedule, constant, cosine, linear
from unlabeled.views.image import simclr_augment
from unlabeled.views.mild import mild_augment
from unlabeled.views.multicrop import MultiCrop

SHARPER, SLOWER = linear(0.04, 0.07, epochs=30), cosine(0.996, 1.0)


class Network(nn.Module):
    """Encoder and head."""

    def __init__(self, encoder: Encoder, head: DinoHead) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, views: list[Tensor], *, learns: float = 1.0) -> Tensor:
        """[V, B, K] logits of V views: a pass of the encoder a resolution, one of the head."""
        groups = [list(group) for _, group in groupby(views, key=lambda view: view.shape[-2:])]
        h = torch.cat([self.encoder(torch.cat(group)) for group in groups])
        return self.head(h, learns=learns).unflatten(0, (len(views), -1))


@final
class DINO(Method):
    """A student matches, on all crops, what its moving average says of the large ones.

    Algorithm 1: ``P_t = softmax((t - C) / tau_t)``, ``P_s = softmax(s / tau_s)``, and the mean of
    ``H(P_t(a), P_s(v))`` over large crops a and crops v != a; then ``C <- m C + (1 - m) mean t``.
    What training leaves behind is the teacher's encoder (section 4.1).

    Args:
        encoder: of the student; takes images of every size that the views have.
        outputs: K.
        hidden: width of the head's hidden layers.
        bottleneck: width of the vectors that are compared with the K directions.
        learn_length: whether the last layer's weights have a length of their own.
        student_temperature: tau_s.
        teacher_temperature: tau_t, a schedule.
        momentum: of the teacher, a schedule.
        center_momentum: m of C.
        frozen_epochs: so long the head's last layer does not learn.

    Values are those of appendix C and the official code.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        outputs: int = 65536,
        hidden: int = 2048,
        bottleneck: int = 256,
        learn_length: bool = False,
        student_temperature: float = 0.1,
        teacher_temperature: Schedule = SHARPER,
        momentum: Schedule = SLOWER,
        center_momentum: float = 0.9,
        frozen_epochs: float = 1.0,
    ) -> None:
        head = DinoHead(
            encoder.dim, outputs, hidden=hidden, bottleneck=bottleneck, learn_length=learn_length
        )
        student = Network(encoder, head)
        teacher = Ema(student)
        without_drop_path(teacher)
        super().__init__(teacher.module.encoder)  # type: ignore[arg-type]
        self.student, self.teacher = student, teacher
        self.center: Tensor
        self.register_buffer("center", torch.zeros(outputs))
        self.student_temperature, self.teacher_temperature = (
            student_temperature,
            teacher_temperature,
        )
        self.momentum, self.center_momentum = momentum, center_momentum
        self.frozen_epochs = frozen_epochs

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of all pairs of crops; the center moves after it."""
        views = batch["views"]
        large = [view for view in views if view.shape[-1] == views[0].shape[-1]]
        target = upcast(self.teacher(large))
        learns = float(self.clock.epoch >= self.frozen_epochs)
        loss = dino_cross_entropy(
            self.student(views, learns=learns),
            target,
            center=self.center,
            teacher_temperature=self.teacher_temperature(self.clock),
            student_temperature=self.student_temperature,
        )
        with torch.no_grad():
            mean = all_sum(target.mean((0, 1))) / world_size()
            # not in place: the backward pass may still read the center
            self.center = torch.lerp(mean, self.center, self.center_momentum)
        return {"cross_entropy": loss}

    def after_step(self) -> None:
        """Move the teacher."""
        self.teacher.update(self.student, momentum=self.momentum(self.clock))

    def predictors(self) -> dict[str, Callable[..., Any]]:
        """Embeddings, and of a transformer the attention of the class token."""
        if isinstance(self.encoder, VitEncoder):
            return {"embed": self.encoder, "attention": self.encoder.attention}
        return {"embed": self.encoder}


def paper() -> Recipe:
    """ViT-S/16, 100 epochs at batch 1024, 2 x 224 + 8 x 96 crops (section 3.2, appendix C).

    AdamW at 5e-4 per 256 images, ten epochs of warm-up, cosine to 1e-6; weight decay from 0.04 to
    0.4 by a cosine; gradients clipped at 3 a tensor; stochastic depth 0.1 in the student.
    """
    return Recipe(
        method=partial(DINO),
        encoder=partial(vit, dim=384, depth=12, heads=6, patch=16, drop_path=0.1),
        data=ImageNet(),
        views=MultiCrop(
            simclr_augment(scale=(0.4, 1.0), strength=0.5),
            simclr_augment(scale=(0.05, 0.4), strength=0.5),
            small_count=8,
        ),
        optim=Optim(
            kind=partial(ClippedAdamW, clip=3.0),
            lr=cosine(5e-4, 1e-6, warmup=10),
            weight_decay=cosine(0.04, 0.4),
            rules=(PLAIN_1D,),
        ),
        epochs=100,
        batch_size=1024,
        evaluate=("knn", "linear", AttentionOverlap()),
    )


def small() -> Recipe:
    """Minutes on two CPU cores: a transformer of three blocks on patches of 7 px."""
    return Recipe(
        method=partial(
            DINO,
            outputs=1024,
            hidden=256,
            bottleneck=64,
            teacher_temperature=constant(0.04),
            momentum=cosine(0.98, 1.0),
            frozen_epochs=0.05,
        ),
        encoder=partial(vit, dim=64, depth=3, heads=2, patch=7),
        data=FashionMnist(),
        views=MultiCrop(
            mild_augment(),
            mild_augment(scale=(0.1, 0.3)),
            small_count=2,
            small_size_ratio=0.5,
        ),
        optim=Optim(
            kind=partial(ClippedAdamW, clip=3.0),
            lr=cosine(1e-3, 1e-6, warmup=0.3),
            lr_per=None,
            weight_decay=cosine(0.04, 0.1),
            rules=(PLAIN_1D,),
        ),
        epochs=1,
        batch_size=64,
        precision="auto",
        evaluate=("knn", "linear", AttentionOverlap()),
    )
