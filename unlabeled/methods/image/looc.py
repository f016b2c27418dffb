"""LooC: What Should Not Be Contrastive in Contrastive Learning (2008.05659)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.encoders.encoder import Encoder
from unlabeled.losses.contrastive import info_nce
from unlabeled.method import Batch, Method, Sweep
from unlabeled.methods.image import moco
from unlabeled.methods.image.moco_v2 import mlp_head
from unlabeled.nn.ema import Ema
from unlabeled.nn.norms import split_batchnorm
from unlabeled.nn.queue import Queue
from unlabeled.nn.shuffle import share_splits, shuffled_keys
from unlabeled.ops.precision import autocast_off, upcast
from unlabeled.recipe import Recipe
from unlabeled.views.image import moco_v2_augment
from unlabeled.views.leave_one_out import LeaveOneOut
from unlabeled.views.mild import mild_augment

if TYPE_CHECKING:
    from jaxtyping import Float


class Spaces(nn.Module):
    """A shared encoder and a head for each space: [B, ...] -> [B, spaces * dim], space by space."""

    def __init__(self, encoder: Encoder, heads: nn.ModuleList) -> None:
        super().__init__()
        self.encoder, self.heads = encoder, heads

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> [B, spaces * dim]."""
        h = self.encoder(x)
        return torch.cat([head(h) for head in self.heads], 1)


@final
class LooC(Method):
    """One space is invariant to all augmentations, one for each family to all but that family.

    Section 3.2: the views are the query, an independent key k_0, and for each family i a key k_i
    with the query's own draw of it. In space 0 every key is a positive, with a term each. In
    space i only k_i is; the other keys of the same image are negatives, beside the space's queue,
    so that the space must tell the family's draws apart. Keys, teacher, shuffled batch norm and
    queues are MoCo's; the encoder without heads is what training leaves behind.

    Args:
        encoder: shared by all spaces.
        families: how many families the views leave out, n.
        head: builds a space's head from (width, dim).
        dim: width of the spaces.
        queue: keys kept for each space; space i keeps k_i, space 0 keeps k_0.
        momentum: of the teacher, encoder and heads.
        temperature: of all terms.
        batchnorm_splits: as in MoCo.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        families: int,
        head: Callable[[int, int], nn.Module] = mlp_head,
        dim: int = 128,
        queue: int = 16384,
        momentum: float = 0.999,
        temperature: float = 0.2,
        batchnorm_splits: int = 8,
    ) -> None:
        super().__init__(split_batchnorm(encoder, splits=batchnorm_splits))
        self.heads = nn.ModuleList(head(encoder.dim, dim) for _ in range(families + 1))
        self.teacher = Ema(self.student)
        self.queues = nn.ModuleList(Queue(queue, dim) for _ in self.heads)
        self.momentum, self.temperature = momentum, temperature
        self.batchnorm_splits = batchnorm_splits

    @property
    def student(self) -> Spaces:
        """The network whose moving average makes the keys."""
        return Spaces(self.encoder, self.heads)  # type: ignore[arg-type]

    def before_step(self, sweep: Sweep) -> None:
        """Divide the splits of the batch among the ranks, which hold a part of it each."""
        share_splits(self, splits=self.batchnorm_splits)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """``1 / (n + 1)`` times the sum of the terms of all spaces; each queue then gets its key.

        Raises:
            ValueError: the views are not a query and n + 1 keys.
        """
        x_q, *x_k = batch["views"]
        count = len(self.heads)
        if len(x_k) != count:
            raise ValueError(
                f"{1 + len(x_k)} views for {count} spaces: give method.families the number of "
                "views.families"
            )
        q = _by_space(self.student(x_q), count)
        k = torch.stack([_by_space(self._keys(x, view), count) for view, x in enumerate(x_k)])
        queues: list[Queue] = list(self.queues)  # type: ignore[arg-type]
        rows = [queue.rows for queue in queues]
        t = self.temperature
        terms = [info_nce(q[0], k[j, 0], rows[0], temperature=t) for j in range(count)]
        losses = {"invariant": torch.stack(terms).sum() / count}
        for i in range(1, count):
            losses[f"space{i}"] = left_out(q[i], k[:, i], rows[i], own=i, temperature=t) / count
        for space, queue in enumerate(queues):
            queue.push(k[space, space])
        return losses

    def after_step(self) -> None:
        """Move the teacher."""
        self.teacher.update(self.student, momentum=self.momentum)

    def predictors(self) -> dict[str, Callable[..., Any]]:
        """``embed``: the encoder (LooC); ``spaces``: all heads' hidden layers (LooC++)."""
        return {"embed": self.encoder, "spaces": self.spaces}

    def spaces(self, x: Tensor) -> Float[Tensor, "B W"]:
        """[B, ...] -> [B, spaces * width]: the hidden layers of all heads side by side."""
        h = self.encoder(x)
        return torch.cat([head[:-1](h) for head in self.heads], 1)  # type: ignore[index]

    def _keys(self, x: Tensor, view: int) -> Tensor:
        """Keys of one view, encoded in an order of its own."""
        seed = self.clock.step * (len(self.heads) + 1) + view
        return shuffled_keys(self.teacher, x, seed=seed)


def left_out(
    q: Float[Tensor, "B D"],
    k: Float[Tensor, "V B D"],
    bank: Float[Tensor, "K D"],
    *,
    own: int,
    temperature: float,
) -> Float[Tensor, ""]:
    """Contrast a query with the key that shares its draw, among the image's other keys too.

    ``-1/B sum_b log exp(q_b.k_own,b / t) / (sum_v exp(q_b.k_v,b / t) + sum_j exp(q_b.bank_j / t))``
    (section 3.2, eq. 3). All rows have unit length; keys and bank get no gradient.
    """
    with autocast_off(q):
        q, k = upcast(q), upcast(k.detach())
        bank = bank.detach().to(q.dtype, copy=True)  # it changes before the backward pass
        keys = (q * k).sum(2).T / temperature
        logits = torch.cat([keys, q @ bank.T / temperature], 1)
        return (logits.logsumexp(1) - keys[:, own]).mean()


def _by_space(z: Tensor, count: int) -> Float[Tensor, "S B D"]:
    """[B, spaces * dim] -> [spaces, B, dim], rows of unit length."""
    return F.normalize(upcast(z).unflatten(1, (count, -1)), dim=2).transpose(0, 1)


def paper() -> Recipe:
    """LooC with rotation (table 1): MoCo's setting, 500 epochs of ImageNet-100 at batch 256.

    SGD at 0.03, times 0.1 at epochs 300 and 400, weight decay 1e-4, teacher momentum 0.999,
    queues of 16,384, temperature 0.2, MoCo v2's heads and views, of which color is drawn afresh
    for every view. With color as a second family: ``method.families=2`` and
    ``views.families=("rotation", "color")``. ImageNet-100 is a folder of 100 classes (--data).
    """
    return replace(
        moco.paper(),
        method=partial(LooC, families=1),
        views=LeaveOneOut(moco_v2_augment(), families=("rotation",)),
        epochs=500,
    )


def small() -> Recipe:
    """Minutes on two CPU cores; shows that it learns and says nothing about ImageNet."""
    return replace(
        moco.small(),
        method=partial(
            LooC, families=2, queue=4096, momentum=0.99, temperature=0.2, batchnorm_splits=4
        ),
        views=LeaveOneOut(mild_augment(), families=("color", "rotation")),
    )
