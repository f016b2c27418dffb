"""MoCo: Momentum Contrast for Unsupervised Visual Representation Learning (1911.05722)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.torchvision_data import ImageNet
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import small_resnet, torchvision_encoder
from unlabeled.losses.contrastive import info_nce
from unlabeled.method import Batch, Method, Sweep
from unlabeled.nn.ema import Ema
from unlabeled.nn.heads import mlp
from unlabeled.nn.norms import SplitBatchNorm2d, split_batchnorm
from unlabeled.nn.queue import Queue
from unlabeled.ops.gather import gather, own_rows, world_size
from unlabeled.ops.precision import upcast
from unlabeled.recipe import PLAIN_1D, Optim, Recipe
from unlabeled.schedule import constant, cosine, steps
from unlabeled.views.image import TwoViews, moco_v1_augment
from unlabeled.views.mild import mild_augment


def linear_head(width: int, dim: int) -> nn.Sequential:
    """[B, width] -> [B, dim]: one linear layer with bias, in place of the classifier."""
    return mlp(width, dim)


@final
class MoCo(Method):
    """A query finds its key among keys of past batches, made by a slowly moving encoder.

    Algorithm 1. The teacher moves after each step, which is before the next step's keys; at the
    first step it equals the student, so the order is the paper's.

    Args:
        encoder: of the queries, without its head.
        head: builds the head from (width, dim); the teacher has a copy.
        dim: width of queries and keys (section 3.3).
        queue: how many keys are kept (section 4.1, figure 3).
        momentum: of the teacher (section 3.2).
        temperature: of InfoNCE (section 3.3).
        batchnorm_splits: parts of the global batch that are normalized apart, in both networks;
            stands for the paper's 8 GPUs without synchronized statistics (section 3.3, shuffling
            BN). The batch size must be a multiple of it.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        head: Callable[[int, int], nn.Module] = linear_head,
        dim: int = 128,
        queue: int = 65536,
        momentum: float = 0.999,
        temperature: float = 0.07,
        batchnorm_splits: int = 8,
    ) -> None:
        super().__init__(split_batchnorm(encoder, splits=batchnorm_splits))
        self.projector = head(encoder.dim, dim)
        self.teacher = Ema(self.student)
        self.queue = Queue(queue, dim)
        self.momentum, self.temperature = momentum, temperature
        self.batchnorm_splits = batchnorm_splits

    @property
    def student(self) -> nn.Sequential:
        """The network whose moving average makes the keys."""
        return nn.Sequential(self.encoder, self.projector)

    def before_step(self, sweep: Sweep) -> None:
        """Divide the splits of the batch among the ranks, which hold a part of it each."""
        for norm in self.modules():
            if isinstance(norm, SplitBatchNorm2d):
                norm.splits = max(1, self.batchnorm_splits // world_size())

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """InfoNCE of q with its key against the queue, which does not hold that key yet."""
        x_q, x_k = batch["views"]
        q, k = self.student(x_q), self._keys(x_k)
        loss = info_nce(q, k, self.queue.rows, temperature=self.temperature)
        self.queue.push(k)
        return {"info_nce": loss}

    def after_step(self) -> None:
        """Move the teacher."""
        self.teacher.update(self.student, momentum=self.momentum)

    @torch.no_grad()
    def _keys(self, x: Tensor) -> Tensor:
        """Unit keys of x, encoded in an order that is mixed over all ranks.

        A key then shares its batch statistics with other samples than its query does, so they
        cannot tell the two belong together.
        """
        views = gather(x)
        generator = torch.Generator().manual_seed(self.clock.step)  # the same on all ranks
        order = torch.randperm(len(views), generator=generator).to(x.device)
        k = gather(self.teacher(own_rows(views[order])))
        return F.normalize(upcast(own_rows(k[order.argsort()])), dim=1)


def paper() -> Recipe:
    """ResNet-50, 200 epochs at batch 256 on 8 GPUs (section 4, training).

    SGD at 0.03 with momentum 0.9 and weight decay 1e-4 on all parameters, times 0.1 at epochs
    120 and 160 (section 4); 65,536 keys (section 4.1), teacher momentum 0.999 (section 3.2),
    temperature 0.07 and 128 dimensions (section 3.3).
    """
    return Recipe(
        method=partial(MoCo),
        encoder=partial(torchvision_encoder, name="resnet50"),
        data=ImageNet(),
        views=TwoViews(moco_v1_augment()),
        optim=Optim(
            kind=partial(torch.optim.SGD, momentum=0.9),
            lr=steps(0.03, at=(0.6, 0.8)),
            weight_decay=constant(1e-4),
        ),
        epochs=200,
        batch_size=256,
        sync_batchnorm=False,
    )


def small() -> Recipe:
    """Minutes on two CPU cores; shows that it learns and says nothing about ImageNet."""
    return Recipe(
        method=partial(MoCo, queue=4096, momentum=0.99, temperature=0.1, batchnorm_splits=4),
        encoder=partial(small_resnet),
        data=FashionMnist(),
        views=TwoViews(mild_augment()),
        optim=Optim(
            kind=torch.optim.AdamW,
            lr=cosine(2e-3, warmup=0.3),
            weight_decay=constant(0.02),
            rules=(PLAIN_1D,),
        ),
        epochs=2,
        batch_size=256,
        precision="auto",
        sync_batchnorm=False,
    )
