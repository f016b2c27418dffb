"""Graph CSSL: Contrastive Self-supervised Learning for Graph Classification (2009.05923)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.graphs import Mutag, Proteins
from unlabeled.data.isomers import Isomers
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.graph import gin, hgp_sl
from unlabeled.evaluators.svm import SvmFolds
from unlabeled.losses.contrastive import info_nce
from unlabeled.method import Batch, Method
from unlabeled.nn.ema import Ema
from unlabeled.nn.heads import mlp
from unlabeled.nn.queue import Queue
from unlabeled.ops.precision import upcast
from unlabeled.recipe import Optim, Recipe
from unlabeled.schedule import constant, cosine
from unlabeled.views.graphs import AlteredGraphs


def head(width: int, dim: int) -> nn.Sequential:
    """[B, width] -> [B, dim]: two layers with a ReLU between."""
    return nn.Sequential(mlp(width, dim), nn.ReLU(), mlp(dim, dim))


@final
class GraphCSSL(Method):
    """A graph's altered view finds another one of the same graph among keys of past batches.

    CSSL-Pretrain and CSSL-Freeze (section 3.2): MoCo's loss, whose keys a moving average of the
    query network makes.

    Args:
        encoder: of the queries.
        dim: of queries and keys.
        queue: how many keys are kept.
        momentum: of the teacher.
        temperature: of InfoNCE.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        dim: int = 128,
        queue: int = 512,
        momentum: float = 0.999,
        temperature: float = 0.07,
    ) -> None:
        super().__init__(encoder)
        self.projector = head(encoder.dim, dim)
        self.teacher = Ema(self.student)
        self.queue = Queue(queue, dim)
        self.momentum, self.temperature = momentum, temperature

    @property
    def student(self) -> nn.Sequential:
        """The network whose moving average makes the keys."""
        return nn.Sequential(self.encoder, self.projector)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """InfoNCE against the queue, which does not hold the keys of this batch yet."""
        return {"info_nce": self._contrast(*batch["views"])}

    def _contrast(self, one: Tensor, other: Tensor) -> Tensor:
        q = self.student(one)
        k = F.normalize(upcast(self.teacher(other)), dim=1)
        loss = info_nce(q, k, self.queue.rows, temperature=self.temperature)
        self.queue.push(k)
        return loss

    def after_step(self) -> None:
        """Move the teacher."""
        self.teacher.update(self.student, momentum=self.momentum)


@final
class RegularizedGraphs(Method):
    """CSSL-Reg (section 3.3): ``L = L_classification + lambda L_contrast``, labels read.

    Classes are learned from the graphs as they are, by the network that makes the queries.

    Args:
        encoder: of the queries.
        classes: how many.
        weight: lambda.
        dim: of queries and keys.
        queue: how many keys are kept.
        momentum: of the teacher.
        temperature: of InfoNCE.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        classes: int,
        weight: float = 1e-3,
        dim: int = 128,
        queue: int = 2048,
        momentum: float = 0.999,
        temperature: float = 0.07,
    ) -> None:
        super().__init__(encoder)
        self.contrast = GraphCSSL(
            encoder, dim=dim, queue=queue, momentum=momentum, temperature=temperature
        )
        self.classifier = nn.Sequential(
            mlp(encoder.dim, 128), nn.ReLU(), mlp(128, 64), nn.ReLU(), mlp(64, classes)
        )
        self.weight = weight

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Reads labels."""
        one, other, plain = batch["views"]
        logits = upcast(self.classifier(self.encoder(plain)))
        contrast = self.contrast.loss({**batch, "views": [one, other]})["info_nce"]
        return {
            "class": F.cross_entropy(logits, batch["label"]),
            "info_nce": self.weight * contrast,
        }

    def after_step(self) -> None:
        """Move the teacher."""
        self.contrast.after_step()


def paper() -> Recipe:
    """Pretraining of HGP-SL on PROTEINS, 1,000 epochs at batch 16 (section 4.2).

    SGD with momentum 0.9 at 1e-5, weight decay 1e-4, cosine.
    """
    return Recipe(
        method=partial(GraphCSSL),
        encoder=partial(hgp_sl),
        data=Proteins(),
        views=AlteredGraphs(),
        optim=Optim(
            kind=partial(torch.optim.SGD, momentum=0.9),
            lr=cosine(1e-5, warmup=0),
            lr_per=None,
            weight_decay=constant(1e-4),
        ),
        epochs=1000,
        batch_size=16,
        evaluate=(SvmFolds(),),
    )


def regularized_paper() -> Recipe:
    """CSSL-Reg on PROTEINS: Adam at 1e-4, weight decay 1e-4, lambda 0.001, a queue of 2,048."""
    return replace(
        paper(),
        method=partial(RegularizedGraphs, classes=2),
        views=AlteredGraphs(plain=True),
        optim=Optim(
            kind=torch.optim.Adam, lr=constant(1e-4), lr_per=None, weight_decay=constant(1e-4)
        ),
    )


def small() -> Recipe:
    """A minute on one CPU core: a GIN on 1,200 generated graphs of the same nodes."""
    return Recipe(
        method=partial(GraphCSSL, dim=32, queue=256, momentum=0.99, temperature=0.2),
        encoder=partial(gin, width=32),
        data=Isomers(),
        views=AlteredGraphs(steps=3),
        optim=Optim(kind=torch.optim.Adam, lr=cosine(3e-3, warmup=0), lr_per=None),
        epochs=40,
        batch_size=32,
        evaluate=("knn", SvmFolds()),
    )


def molecules() -> Recipe:
    """`small` with HGP-SL on MUTAG's 150 training molecules."""
    return replace(small(), encoder=partial(hgp_sl, width=64), data=Mutag(), epochs=100)


def regularized() -> Recipe:
    """CSSL-Reg on the generated graphs, lambda 0.01, labels read."""
    return replace(
        small(),
        method=partial(
            RegularizedGraphs,
            classes=6,
            weight=0.01,
            dim=32,
            queue=256,
            momentum=0.99,
            temperature=0.2,
        ),
        views=AlteredGraphs(steps=3, plain=True),
    )
