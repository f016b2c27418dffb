"""EqCo: Equivalent Rules for Self-supervised Contrastive Learning (2010.01929).

SiMo is the paper's own method, MoCo without a queue; EqCo is its rule in MoCo v2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from unlabeled.data.torchvision_data import ImageNet
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import timm_encoder
from unlabeled.losses.similarities import equivalent_info_nce
from unlabeled.method import Batch, Method, Sweep
from unlabeled.methods.image import moco_v2, simclr
from unlabeled.methods.image.moco_v2 import mlp_head
from unlabeled.nn.ema import Ema
from unlabeled.nn.heads import mlp
from unlabeled.nn.norms import split_batchnorm
from unlabeled.nn.queue import Queue
from unlabeled.nn.shuffle import share_splits, shuffled_keys
from unlabeled.ops.gather import gather, own_rows
from unlabeled.ops.similarity import cosines, paired_cosines
from unlabeled.recipe import Optim, Recipe
from unlabeled.schedule import constant, cosine
from unlabeled.views.image import TwoViews, moco_v2_augment


def normalized_head(width: int, dim: int) -> nn.Sequential:
    """[B, width] -> [B, dim]: batch norm after both layers, no biases, weights of N(0, 0.01^2).

    As in the official code; the norm after the last layer is part of SiMo.
    """
    head = mlp(width, width, dim, last_bias=False, last_norm="affine")
    for layer in head:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
    return head


@final
class SiMo(Method):
    """A query finds its key among those of ``negatives`` other samples, which weigh ``alpha``.

    Keys come from a slowly moving teacher and live for one step; batch norm over all ranks takes
    the place of MoCo's shuffling.

    Args:
        encoder: of the queries, without its head.
        alpha: the number of negatives that those of a query stand for.
        negatives: K, drawn anew each step from the other samples of the global batch; None takes
            all of them.
        head: builds the head from (width, dim); the teacher has a copy.
        dim: width of queries and keys.
        momentum: of the teacher.
        temperature: of InfoNCE.

    Raises:
        ValueError: alpha is not positive; at the first loss, the batch has too few samples.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        alpha: float,
        negatives: int | None = None,
        head: Callable[[int, int], nn.Module] = normalized_head,
        dim: int = 128,
        momentum: float = 0.999,
        temperature: float = 0.2,
    ) -> None:
        super().__init__(encoder)
        if alpha <= 0 or (negatives is not None and negatives < 1):
            raise ValueError(
                f"alpha is {alpha} and negatives {negatives}: give more than 0 of both"
            )
        self.projector = head(encoder.dim, dim)
        self.teacher = Ema(self.student)
        self.alpha, self.negatives = alpha, negatives
        self.momentum, self.temperature = momentum, temperature

    @property
    def student(self) -> nn.Sequential:
        """The network whose moving average makes the keys."""
        return nn.Sequential(self.encoder, self.projector)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """InfoNCE with EqCo's margin against K keys of the same step."""
        x_q, x_k = batch["views"]
        similarity = cosines(self.student(x_q), gather(self.teacher(x_k)))
        samples = similarity.shape[1]
        own = own_rows(torch.arange(samples, device=similarity.device))[:, None]
        others = self._drawn(samples).to(own.device)
        others = others + (others >= own)  # places among all samples but the query's own
        loss = equivalent_info_nce(
            similarity.gather(1, own)[:, 0],
            similarity.gather(1, others),
            temperature=self.temperature,
            alpha=self.alpha,
        )
        return {"equivalent_info_nce": loss}

    def after_step(self) -> None:
        """Move the teacher."""
        self.teacher.update(self.student, momentum=self.momentum)

    def _drawn(self, samples: int) -> Tensor:
        """[K]: which of the other samples are this step's negatives, the same on all ranks."""
        count = samples - 1 if self.negatives is None else self.negatives
        if not 1 <= count < samples:
            raise ValueError(
                f"negatives is {self.negatives}, the batch has {samples} samples: "
                f"give 1 to {samples - 1}, or a larger batch_size"
            )
        generator = torch.Generator().manual_seed(self.clock.step)
        return torch.randperm(samples - 1, generator=generator)[:count]


@final
class EqCo(Method):
    """MoCo v2 with a short queue, whose K keys weigh as much as ``alpha``.

    Args:
        encoder: of the queries, without its head.
        alpha: the number of negatives that the queue stands for.
        queue: K, how many keys are kept.
        head: builds the head from (width, dim); the teacher has a copy.
        dim: width of queries and keys.
        momentum: of the teacher.
        temperature: of InfoNCE.
        batchnorm_splits: as in MoCo.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        alpha: float,
        queue: int,
        head: Callable[[int, int], nn.Module] = mlp_head,
        dim: int = 128,
        momentum: float = 0.999,
        temperature: float = 0.2,
        batchnorm_splits: int = 8,
    ) -> None:
        super().__init__(split_batchnorm(encoder, splits=batchnorm_splits))
        self.projector = head(encoder.dim, dim)
        self.teacher = Ema(self.student)
        self.queue = Queue(queue, dim)
        self.alpha, self.momentum, self.temperature = alpha, momentum, temperature
        self.batchnorm_splits = batchnorm_splits

    @property
    def student(self) -> nn.Sequential:
        """The network whose moving average makes the keys."""
        return nn.Sequential(self.encoder, self.projector)

    def before_step(self, sweep: Sweep) -> None:
        """Divide the splits of the batch among the ranks, which hold a part of it each."""
        share_splits(self, splits=self.batchnorm_splits)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """InfoNCE with EqCo's margin against the queue."""
        x_q, x_k = batch["views"]
        q = self.student(x_q)
        k = shuffled_keys(self.teacher, x_k, seed=self.clock.step)
        loss = equivalent_info_nce(
            paired_cosines(q, k),
            cosines(q, self.queue.rows),
            temperature=self.temperature,
            alpha=self.alpha,
        )
        self.queue.push(k)
        return {"equivalent_info_nce": loss}

    def after_step(self) -> None:
        """Move the teacher."""
        self.teacher.update(self.student, momentum=self.momentum)


def paper() -> Recipe:
    """SiMo: ResNet-50, 200 epochs at batch 256, all 255 other samples as alpha = 256 (its code).

    SGD at 0.03 with momentum 0.9 and weight decay 1e-4 on all parameters, ten steps of warm-up
    (0.002 epochs), then a cosine; teacher momentum 0.999, temperature 0.2; MoCo v2's views.
    """
    return Recipe(
        method=partial(SiMo, alpha=256),
        encoder=partial(timm_encoder, name="resnet50"),  # timm's starts its branches at zero
        data=ImageNet(),
        views=TwoViews(moco_v2_augment()),
        optim=Optim(
            kind=partial(torch.optim.SGD, momentum=0.9),
            lr=cosine(0.03, warmup=0.002),
            weight_decay=constant(1e-4),
        ),
        epochs=200,
        batch_size=256,
    )


def moco() -> Recipe:
    """MoCo v2 for 200 epochs with a queue of 256 keys that stand for 65,536."""
    return replace(moco_v2.paper(), method=partial(EqCo, alpha=65536, queue=256), epochs=200)


def small() -> Recipe:
    """Minutes on two CPU cores; shows that it learns and says nothing about ImageNet."""
    return replace(
        simclr.small(),
        method=partial(SiMo, alpha=4096, negatives=8, momentum=0.99, temperature=0.2),
    )
