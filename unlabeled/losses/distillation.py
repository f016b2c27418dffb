"""Distillation losses: predict another view's target, which gets no gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, cat

from unlabeled.losses.crossview import cross_view
from unlabeled.ops.precision import autocast_off, upcast

if TYPE_CHECKING:
    from jaxtyping import Float


def regression(p: Float[Tensor, "B D"], z: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Squared distance of unit vectors, ``mean_i 2 - 2 cos(p_i, z_i)``, from 0 to 4.

    One direction; BYOL adds the two (arXiv:2006.07733, eq. 2). z gets no gradient.

    Raises:
        ValueError: the shapes differ.
    """
    return 2 + 2 * negative_cosine(p, z)


def negative_cosine(p: Float[Tensor, "B D"], z: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Return ``-mean_i cos(p_i, z_i)``, from -1 to 1.

    One direction; SimSiam takes the mean of the two (arXiv:2011.10566, eq. 1 and 3). z gets no
    gradient.

    Raises:
        ValueError: the shapes differ.
    """
    if p.shape != z.shape:
        raise ValueError(f"shapes are {list(p.shape)} and {list(z.shape)}: give equal ones")
    with autocast_off(p):
        p, z = F.normalize(upcast(p), dim=1), F.normalize(upcast(z.detach()), dim=1)
        return -(p * z).sum(1).mean()


def queue_cross_entropy(
    student: Float[Tensor, "B D"],
    teacher: Float[Tensor, "B D"],
    queue: Float[Tensor, "K D"],
    *,
    student_temperature: float,
    teacher_temperature: float,
) -> Float[Tensor, ""]:
    """Match the similarities to the teacher's vectors, past ones and the image's own.

    With ``D+ = [z_t, queue]``: ``-mean_i sum_j softmax(z_t D+^T / tt)[j]
    log softmax(z_s D+^T / ts)[j]`` (SEED, arXiv:2101.04731, eq. 3 to 5). Inputs need not be
    normalized; teacher and queue get no gradient. Float32, since 1 / tt overflows half precision.

    Args:
        student: z_s.
        teacher: z_t of the same views.
        queue: unit vectors of the teacher.
        student_temperature: ts.
        teacher_temperature: tt; towards 0 this is InfoNCE with the teacher's keys.

    Raises:
        ValueError: a temperature is not positive, or shapes do not fit.
    """
    if min(teacher_temperature, student_temperature) <= 0 or student.shape != teacher.shape:
        raise ValueError(
            f"temperatures are {teacher_temperature} and {student_temperature}, shapes "
            f"{list(student.shape)} and {list(teacher.shape)}: give values above 0, equal shapes"
        )
    with autocast_off(student):
        z_s = F.normalize(upcast(student), dim=1)
        z_t = F.normalize(upcast(teacher.detach()), dim=1)
        past = upcast(queue)
        own = cat([(z_t * z_t).sum(1, keepdim=True), z_t @ past.T], 1)
        seen = cat([(z_s * z_t).sum(1, keepdim=True), z_s @ past.T], 1)
        target = (own / teacher_temperature).softmax(1)
        return F.cross_entropy(seen / student_temperature, target)


def dino_cross_entropy(
    student: Float[Tensor, "V B K"],
    teacher: Float[Tensor, "T B K"],
    *,
    center: Float[Tensor, K],
    teacher_temperature: float,
    student_temperature: float = 0.1,
) -> Float[Tensor, ""]:
    """Match the student's distribution on each view to the teacher's on each other view.

    ``mean_a mean_{v != a} mean_i -sum_k softmax((teacher_a[i] - center) / tt)[k]
    log softmax(student_v[i] / ts)[k]`` over T (V - 1) pairs of views (DINO, arXiv:2104.14294,
    eq. 3 and algorithm 1). View a of the teacher is view a of the student. Teacher and center get
    no gradient. Equal logits give log K. Takes a block of samples at a time and makes the
    gradient in the same pass, so one backward pass only (`cross_view`).

    Args:
        student: logits of all views; those that the teacher sees come first.
        teacher: logits of its views.
        center: running mean of the teacher's logits; the caller moves it after the loss.
        teacher_temperature: tt, below the student's: it sharpens (section 3.1).
        student_temperature: ts.

    Raises:
        ValueError: a temperature is not positive, or the shapes do not fit.
    """
    if min(teacher_temperature, student_temperature) <= 0:
        raise ValueError(
            f"temperatures are {teacher_temperature} and {student_temperature}: give values above 0"
        )
    fits = student.shape[1:] == teacher.shape[1:] == (student.shape[1], *center.shape)
    if not fits or len(student) < 2 or not 1 <= len(teacher) <= len(student):
        raise ValueError(
            f"student is {list(student.shape)}, teacher {list(teacher.shape)}, center "
            f"{list(center.shape)}: give [V, B, K], [T, B, K] and [K], V at least 2, T from 1 to V"
        )
    fixed, middle = teacher.detach(), center.detach()

    def targets(rows: slice) -> Tensor:
        return (upcast(fixed[:, rows]) - middle).div_(teacher_temperature).softmax(2)

    return cross_view([student], targets, count=len(teacher), temperature=student_temperature)
