"""SEED: Self-Supervised Distillation for Visual Representation (2101.04731)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from unlabeled.data.torchvision_data import ImageNet
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import small_resnet, torchvision_encoder
from unlabeled.losses.distillation import queue_cross_entropy
from unlabeled.method import Batch, Method
from unlabeled.methods.image import moco_v2
from unlabeled.methods.image.moco_v2 import mlp_head
from unlabeled.nn.queue import Queue
from unlabeled.ops.precision import upcast
from unlabeled.recipe import Optim, Recipe
from unlabeled.schedule import constant, cosine
from unlabeled.trained import Trained
from unlabeled.views.image import OneView, moco_v2_augment, simclr_augment
from unlabeled.views.mild import mild_augment
from unlabeled.views.multicrop import MultiCrop

STUDENT = partial(small_resnet, widths=(8, 16, 64))


@final
class SEED(Method):
    """A small student has the similarities of a frozen teacher to what the teacher has seen.

    Both see the same view. ``p = softmax(z_t D+ / tau_t)``, ``q = softmax(z_s D+ / tau_s)`` with
    D+ the image's own z_t and the queue of the teacher's vectors; the loss is the cross-entropy
    (section 3.2, eq. 3 to 5), and z_t is queued after it. Small crops, where the views have any,
    are compared among themselves with a queue of their own (appendix, small patches).

    Args:
        encoder: the student, without its head.
        teacher: the run whose encoder and projector teach; None keeps random weights.
        teacher_encoder: builds the teacher's encoder.
        teacher_head: builds its projector from (width, dim).
        head: builds the student's from (width, dim).
        dim: width of the compared vectors.
        queue: how many of the teacher's vectors are kept.
        student_temperature: tau_s.
        teacher_temperature: tau_t.
        small_crops: whether the views have small crops.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        teacher: Trained | None,
        teacher_encoder: Callable[[Any], Encoder],
        teacher_head: Callable[[int, int], nn.Module] = mlp_head,
        head: Callable[[int, int], nn.Module] = mlp_head,
        dim: int = 128,
        queue: int = 65536,
        student_temperature: float = 0.2,
        teacher_temperature: float = 0.01,
        small_crops: bool = False,
    ) -> None:
        super().__init__(encoder)
        self.projector = head(encoder.dim, dim)
        teaching = teacher_encoder(encoder.spec)
        self.teacher = nn.Sequential(teaching, teacher_head(teaching.dim, dim))
        self.teacher.requires_grad_(False).eval()
        if teacher is not None and not next(self.teacher.parameters()).is_meta:
            self.teacher[0].load_state_dict(teacher.weights())
            self.teacher[1].load_state_dict(teacher.method_weights("projector"))
        self.queue = Queue(queue, dim)
        self.small_queue = Queue(queue, dim) if small_crops else None
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature

    def train(self, mode: bool = True) -> SEED:
        """Set the student's mode; the teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of the large view, and of the small crops where there are any."""
        first, *rest = batch["views"]
        terms = {"similarity": self._match([first], self.queue)}
        if self.small_queue is not None:
            small = [view for view in rest if view.shape[-1] < first.shape[-1]]
            terms["small"] = self._match(small, self.small_queue)
        return terms

    def _match(self, views: list[Tensor], queue: Queue) -> Tensor:
        x = torch.cat(views)
        with torch.no_grad():
            z_t = upcast(self.teacher(x))
        loss = queue_cross_entropy(
            self.projector(self.encoder(x)),
            z_t,
            queue.rows.clone(),  # the backward pass reads it after the push
            student_temperature=self.student_temperature,
            teacher_temperature=self.teacher_temperature,
        )
        queue.push(nn.functional.normalize(z_t[: len(views[0])], dim=1))
        return loss


def paper() -> Recipe:
    """ResNet-18 learns from MoCo v2's ResNet-50, 200 epochs at batch 256 (section 4.1).

    SGD at 0.03 per 256 images after five epochs of warm-up, cosine, weight decay 1e-4; MoCo v2's
    views, one an image; temperatures 0.2 and 0.01.
    """
    return Recipe(
        method=partial(
            SEED,
            teacher=Trained(recipe="moco_v2:paper"),
            teacher_encoder=partial(torchvision_encoder, name="resnet50"),
        ),
        encoder=partial(torchvision_encoder, name="resnet18"),
        data=ImageNet(),
        views=OneView(moco_v2_augment()),
        optim=Optim(
            kind=partial(torch.optim.SGD, momentum=0.9),
            lr=cosine(0.03, warmup=5),
            weight_decay=constant(1e-4),
        ),
        epochs=200,
        batch_size=256,
    )


def small_patches() -> Recipe:
    """`paper` with six small crops an image beside the large one (appendix), 400 epochs."""
    recipe = paper()
    assert isinstance(recipe.method, partial)
    return replace(
        recipe,
        method=partial(SEED, **{**recipe.method.keywords, "small_crops": True}),
        views=MultiCrop(
            simclr_augment(scale=(0.14, 1.0), interpolation="bilinear"),
            simclr_augment(scale=(0.05, 0.14), interpolation="bilinear"),
            large_count=1,
        ),
        epochs=400,
    )


def small() -> Recipe:
    """Minutes on two CPU cores: a network of a quarter of the width learns from `moco_v2:small`.

    The teacher is trained first where it has not been yet. `alone` is the student without it.
    """
    return replace(
        moco_v2.small(),
        method=partial(
            SEED,
            teacher=Trained(recipe="moco_v2:small"),
            teacher_encoder=partial(small_resnet),
            queue=4096,
            teacher_temperature=0.05,
        ),
        encoder=STUDENT,
        views=OneView(mild_augment()),
        sync_batchnorm=True,
    )


def alone() -> Recipe:
    """The student of `small` by the teacher's own method, MoCo v2, in as many steps."""
    return replace(moco_v2.small(), encoder=STUDENT)
