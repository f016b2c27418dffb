"""SimCLR v2: Big Self-Supervised Models are Strong Semi-Supervised Learners (2006.10029).

Three stages: ``paper`` or ``small`` pretrain without labels; ``fine_tune`` goes on with the labels
of a few images from the middle of the head; ``distill`` hands the answers on unlabeled images to a
smaller network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.labeled_part import LabeledPart
from unlabeled.data.torchvision_data import ImageNet
from unlabeled.encoders.headed import ClassifyingEncoder, classifying_encoder, headed_encoder
from unlabeled.encoders.image import small_resnet, timm_encoder
from unlabeled.method import Batch, Method
from unlabeled.methods.image import simclr
from unlabeled.nn.optim import Lars
from unlabeled.ops.precision import autocast_off, upcast
from unlabeled.recipe import PLAIN_1D, Optim, Recipe
from unlabeled.schedule import Schedule, constant, cosine
from unlabeled.trained import Trained
from unlabeled.views.image import Augment, OneView

if TYPE_CHECKING:
    from jaxtyping import Float


@final
class FineTuning(Method):
    """Stage 2: cross-entropy on few labels, of the whole network and a new classifier.

    It starts from the first layer of the head: `headed_encoder` keeps it (section 2). Reads labels.

    Args:
        encoder: the pretrained network with a classifier at zero.
        start: the run of stage 1; None keeps the weights as they are.
    """

    encoder: ClassifyingEncoder

    def __init__(self, encoder: ClassifyingEncoder, *, start: Trained | None) -> None:
        super().__init__(encoder)
        if start is not None and not encoder.classifier.weight.is_meta:
            encoder.base.load_state_dict(start.weights())

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy with the labels."""
        (x,) = batch["views"]
        return {"cross_entropy": F.cross_entropy(upcast(self.encoder.logits(x)), batch["label"])}

    def predictors(self) -> dict[str, Callable[..., Any]]:
        """``embed``: the features; ``classify``: the logits."""
        return {"embed": self.encoder, "classify": self.encoder.logits}


@final
class Distillation(Method):
    """Stage 3: a student learns the fine-tuned network's answers on images without labels.

    Both see the same view; the teacher is fixed and in eval mode (section 2, eq. 2).

    Args:
        encoder: the student, with a classifier.
        teacher: the run of stage 2; None keeps random weights.
        teacher_encoder: builds the teacher's network.
        temperature: of both softmaxes.
    """

    encoder: ClassifyingEncoder

    def __init__(
        self,
        encoder: ClassifyingEncoder,
        *,
        teacher: Trained | None,
        teacher_encoder: Callable[[Any], ClassifyingEncoder],
        temperature: float = 0.1,
    ) -> None:
        super().__init__(encoder)
        self.teacher = teacher_encoder(encoder.spec).requires_grad_(False).eval()
        if teacher is not None and not encoder.classifier.weight.is_meta:
            self.teacher.load_state_dict(teacher.weights())
        self.temperature = temperature

    def train(self, mode: bool = True) -> Distillation:
        """Set the student's mode; the teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of the student's distribution with the teacher's."""
        (x,) = batch["views"]
        with torch.no_grad():
            answer = self.teacher.logits(x)
        loss = soft_cross_entropy(self.encoder.logits(x), answer, temperature=self.temperature)
        return {"distillation": loss}

    def predictors(self) -> dict[str, Callable[..., Any]]:
        """``embed``: the student's features; ``classify``: its logits."""
        return {"embed": self.encoder, "classify": self.encoder.logits}


def soft_cross_entropy(
    student: Float[Tensor, "B C"], teacher: Float[Tensor, "B C"], *, temperature: float
) -> Float[Tensor, ""]:
    """``-mean_i sum_y P_teacher(y | x_i) log P_student(y | x_i)``, ``P = softmax(logits / t)``.

    Equation 2. The teacher gets no gradient.

    Raises:
        ValueError: the temperature is not positive, or the shapes differ.
    """
    if temperature <= 0 or student.shape != teacher.shape:
        raise ValueError(
            f"temperature is {temperature}, logits are {list(student.shape)} and "
            f"{list(teacher.shape)}: give a value above 0 and equal shapes"
        )
    with autocast_off(student):
        target = (upcast(teacher.detach()) / temperature).softmax(1)
        return F.cross_entropy(upcast(student) / temperature, target)


def _lars(lr: Schedule, *, weight_decay: float) -> Optim:
    """LARS whose rate is that of the paper's batch size, since its rule is a square root."""
    return Optim(
        kind=Lars, lr=lr, lr_per=None, weight_decay=constant(weight_decay), rules=(PLAIN_1D,)
    )


def paper() -> Recipe:
    """Stage 1: ResNet-50, 800 epochs at batch 4096 (section 3, appendix B).

    SimCLR with a head of three layers, the first of which stays with the encoder; LARS at
    0.1 sqrt(4096) = 6.4 with weight decay 1e-4, 40 epochs (5 %) of warm-up, then a cosine to 0,
    temperature 0.1, SimCLR's views.
    """
    return replace(
        simclr.paper(),
        encoder=partial(headed_encoder, base=partial(timm_encoder, name="resnet50"), layers=1),
        optim=_lars(cosine(6.4, warmup=40), weight_decay=1e-4),
        epochs=800,
    )


def big_paper() -> Recipe:
    """Stage 1 of a big network: ResNet-152, twice as wide."""
    wide = partial(timm_encoder, name="resnet152", width=2.0)
    return replace(paper(), encoder=partial(headed_encoder, base=wide, layers=1))


def fine_tune_paper() -> Recipe:
    """Stage 2 of the big network: a tenth of ImageNet's labels, 30 epochs at batch 1024.

    LARS at 0.005 sqrt(1024) = 0.16, a cosine without warm-up or weight decay; crops and flips
    only (section 3). With 1 % of the labels: ``data.share=0.01`` and 60 epochs.
    """
    recipe = big_paper()
    return replace(
        recipe,
        method=partial(FineTuning, start=Trained(recipe="simclr_v2:big_paper")),
        encoder=partial(classifying_encoder, base=recipe.encoder, classes=1000),
        data=LabeledPart(ImageNet(), share=0.1),
        views=OneView(Augment(interpolation="bicubic")),
        optim=_lars(cosine(0.16), weight_decay=0.0),
        epochs=30,
        batch_size=1024,
    )


def distill_paper() -> Recipe:
    """Stage 3: ResNet-50 learns from the big network, 400 epochs; the rest as in stage 1."""
    student = partial(timm_encoder, name="resnet50")
    return replace(
        paper(),
        method=partial(
            Distillation,
            teacher=Trained(recipe="simclr_v2:fine_tune_paper"),
            teacher_encoder=partial(classifying_encoder, base=big_paper().encoder, classes=1000),
            temperature=0.1,
        ),
        encoder=partial(classifying_encoder, base=student, classes=1000),
        views=OneView(Augment(interpolation="bicubic")),
        optim=_lars(cosine(6.4, warmup=20), weight_decay=1e-4),
        epochs=400,
    )


def small() -> Recipe:
    """Stage 1: minutes on two CPU cores; shows that it learns and says nothing about ImageNet."""
    return replace(
        simclr.small(), encoder=partial(headed_encoder, base=partial(small_resnet), layers=1)
    )


def fine_tune() -> Recipe:
    """Stage 2 of `small`: the labels of 1 % of Fashion-MNIST, 60 epochs."""
    recipe = small()
    return replace(
        recipe,
        method=partial(FineTuning, start=Trained(recipe="simclr_v2:small")),
        encoder=partial(classifying_encoder, base=recipe.encoder, classes=10),
        data=LabeledPart(FashionMnist(), share=0.01),
        views=OneView(Augment(scale=(0.5, 1.0))),
        optim=Optim(kind=torch.optim.AdamW, lr=cosine(1e-3), lr_per=None),
        epochs=60,
        batch_size=60,
    )


def distill() -> Recipe:
    """Stage 3 of `fine_tune`: a network of half the width learns its answers, without labels."""
    student = partial(small_resnet, widths=(16, 32, 128))
    return replace(
        small(),
        method=partial(
            Distillation,
            teacher=Trained(recipe="simclr_v2:fine_tune"),
            teacher_encoder=partial(classifying_encoder, base=small().encoder, classes=10),
            temperature=0.1,
        ),
        encoder=partial(classifying_encoder, base=student, classes=10),
        views=OneView(Augment(scale=(0.5, 1.0))),
    )
