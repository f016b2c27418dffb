"""MoCHi: Hard Negative Mixing for Contrastive Learning (2010.01028)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.encoders.encoder import Encoder
from unlabeled.losses.contrastive import info_nce
from unlabeled.losses.similarities import info_nce_of
from unlabeled.method import Batch, Method, Sweep
from unlabeled.methods.image import moco_v2
from unlabeled.methods.image.moco_v2 import mlp_head
from unlabeled.nn.ema import Ema
from unlabeled.nn.norms import split_batchnorm
from unlabeled.nn.queue import Queue
from unlabeled.nn.shuffle import share_splits, shuffled_keys
from unlabeled.ops.mining import hardest
from unlabeled.ops.precision import autocast_off, upcast
from unlabeled.ops.similarity import cosines, paired_cosines
from unlabeled.recipe import Recipe
from unlabeled.views.generator import SampleGenerator

NO_RUN = -1  # a seed that no run has: mixing and the views never draw the same numbers


@final
class MoCHi(Method):
    """MoCo v2 whose queries also meet negatives mixed from the hardest keys of the queue.

    For each query the ``hardest`` most similar keys are looked up; ``pairs`` times two of them,
    and ``queries`` times the query and one of them, are mixed and brought back to unit length
    (section 4). Nothing is mixed during the warm-up, which is MoCo v2.

    Args:
        encoder: of the queries, without its head.
        head: builds the head from (width, dim); the teacher has a copy.
        dim: width of queries and keys.
        queue: how many keys are kept.
        momentum: of the teacher.
        temperature: of InfoNCE.
        hardest: N, the keys that a query's negatives are mixed from.
        pairs: s, negatives mixed from two keys.
        queries: s', negatives mixed from the query and a key.
        warmup: share of the run in which nothing is mixed.
        batchnorm_splits: as in MoCo.

    Raises:
        ValueError: the queue has fewer keys than ``hardest``, or ``hardest`` is below 1.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        head: Callable[[int, int], nn.Module] = mlp_head,
        dim: int = 128,
        queue: int = 65536,
        momentum: float = 0.999,
        temperature: float = 0.2,
        hardest: int = 1024,
        pairs: int = 512,
        queries: int = 256,
        warmup: float = 0.05,
        batchnorm_splits: int = 8,
    ) -> None:
        super().__init__(split_batchnorm(encoder, splits=batchnorm_splits))
        if not 1 <= hardest <= queue:
            raise ValueError(f"hardest is {hardest}, the queue has {queue} keys: give 1 to {queue}")
        self.projector = head(encoder.dim, dim)
        self.teacher = Ema(self.student)
        self.queue = Queue(queue, dim)
        self.momentum, self.temperature = momentum, temperature
        self.hardest, self.pairs, self.queries = hardest, pairs, queries
        self.warmup, self.batchnorm_splits = warmup, batchnorm_splits

    @property
    def student(self) -> nn.Sequential:
        """The network whose moving average makes the keys."""
        return nn.Sequential(self.encoder, self.projector)

    def before_step(self, sweep: Sweep) -> None:
        """Divide the splits of the batch among the ranks, which hold a part of it each."""
        share_splits(self, splits=self.batchnorm_splits)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """InfoNCE of q with its key against the queue and the negatives mixed for q."""
        x_q, x_k = batch["views"]
        q, bank = self.student(x_q), self.queue.rows
        k = shuffled_keys(self.teacher, x_k, seed=self.clock.step)
        if self.clock.progress < self.warmup:
            loss = info_nce(q, k, bank, temperature=self.temperature)
        else:
            real = cosines(q, bank)
            places = hardest(real, count=self.hardest)
            # of the sample and not of its place: R ranks mix what one rank would
            generator = SampleGenerator(NO_RUN, self.clock.step, batch["index"])
            mixed = torch.cat(
                [
                    mix_pairs(bank, places, generator, count=self.pairs),
                    mix_queries(q, bank, places, generator, count=self.queries),
                ],
                1,
            )
            negatives = torch.cat([real, cosines(q, mixed)], 1)
            loss = info_nce_of(paired_cosines(q, k), negatives, temperature=self.temperature)
        self.queue.push(k)
        return {"info_nce": loss}

    def after_step(self) -> None:
        """Move the teacher."""
        self.teacher.update(self.student, momentum=self.momentum)


@torch.no_grad()
def mix_pairs(bank: Tensor, places: Tensor, generator: SampleGenerator, *, count: int) -> Tensor:
    """[B, count, D]: ``h = a n_i + (1 - a) n_j`` on the sphere, a from U(0, 1) (section 4.1).

    i and j are drawn from ``places`` [B, N] of the bank, with replacement.
    """
    i, j = (generator.integers(count, high=places.shape[1]) for _ in range(2))
    share = generator.uniform(count)[..., None].to(bank.dtype)
    return F.normalize(
        share * bank[places.gather(1, i)] + (1 - share) * bank[places.gather(1, j)], dim=2
    )


@torch.no_grad()
def mix_queries(
    q: Tensor, bank: Tensor, places: Tensor, generator: SampleGenerator, *, count: int
) -> Tensor:
    """[B, count, D]: ``h = b q + (1 - b) n_j`` on the sphere, b from U(0, 0.5) (section 4.2).

    The key always has the larger share, so that h stays a negative.
    """
    j = generator.integers(count, high=places.shape[1])
    share = generator.uniform(count, high=0.5)[..., None].to(bank.dtype)
    with autocast_off(q):
        own = F.normalize(upcast(q), dim=1)[:, None].to(bank.dtype)
        return F.normalize(share * own + (1 - share) * bank[places.gather(1, j)], dim=2)


def paper() -> Recipe:
    """MoCo v2's setting, 200 epochs, with (N, s, s') = (1024, 512, 256): the best linear figure.

    Mixing starts after 10 epochs, 5 % of the run; temperature 0.2 (section 5).
    """
    return replace(moco_v2.paper(), method=partial(MoCHi), epochs=200)


def small() -> Recipe:
    """Minutes on two CPU cores; shows that it learns and says nothing about ImageNet."""
    return replace(
        moco_v2.small(),
        method=partial(
            MoCHi,
            queue=4096,
            momentum=0.99,
            temperature=0.2,
            hardest=256,
            pairs=128,
            queries=64,
            warmup=0.125,
            batchnorm_splits=4,
        ),
    )
