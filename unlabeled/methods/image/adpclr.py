"""AdpCLR: Self-Supervised Representation Learning via Adaptive Hard-Positive Mining (ICLR 2021).

A reconstruction: of the withdrawn submission only the abstract and the list's figures are known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from unlabeled.encoders.encoder import Encoder
from unlabeled.losses.multi_positive import multi_positive_nt_xent
from unlabeled.method import Batch, Clock, Method
from unlabeled.methods.image import simclr
from unlabeled.methods.image.simclr import nonlinear_head
from unlabeled.nn.optim import Lars
from unlabeled.ops.gather import gather, own_rows
from unlabeled.ops.mining import hardest
from unlabeled.ops.similarity import cosines, paired_cosines
from unlabeled.recipe import PLAIN_1D, Optim, Recipe
from unlabeled.schedule import constant, cosine

Rule = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(named, similarity, agreement) -> accepted: which of the nearest samples become positives.

``named`` [2B, N] bool and ``similarity`` [2B, N] are of this rank's anchors (first views first) and
the samples of all ranks, ``agreement`` [B] is the similarity of each sample's two views.
"""


def all_named(named: Tensor, similarity: Tensor, agreement: Tensor) -> Tensor:
    """Accept every neighbor."""
    return named


def mutual(named: Tensor, similarity: Tensor, agreement: Tensor) -> Tensor:
    """Accept a neighbor that has the anchor's sample among its own, by either of its views."""
    by_sample = gather(named[: len(agreement)] | named[len(agreement) :])
    return named & own_rows(by_sample.T).repeat(2, 1)


def close(named: Tensor, similarity: Tensor, agreement: Tensor, *, margin: float = 0.1) -> Tensor:
    """Accept a neighbor that is nearly as similar as the two views of a sample are on average."""
    return named & (similarity >= gather(agreement).mean() - margin)


@final
class AdpCLR(Method):
    """SimCLR that also attracts the nearest other samples of the batch.

    Each anchor names its K nearest samples, K growing in equal steps from 1 to ``neighbors`` after
    the warm-up; those that ``rule`` accepts are positives of weight ``weight`` beside the anchor's
    other view, and all views stay in the denominator. With the true classes as neighbors this is
    the supervised contrastive loss; without any it is SimCLR.

    Args:
        encoder: f.
        head: builds g from (width, dim).
        dim: width of z.
        temperature: of the loss.
        neighbors: the largest K.
        warmup: share of the run without mining, while neighbors would be those of chance.
        weight: of a mined positive; the other view has 1.
        rule: which neighbors are accepted.

    Raises:
        ValueError: ``neighbors`` is below 0, or a share is outside [0, 1].
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        head: Callable[[int, int], nn.Module] = nonlinear_head,
        dim: int = 128,
        temperature: float = 0.1,
        neighbors: int = 4,
        warmup: float = 0.15,
        weight: float = 0.5,
        rule: Rule = mutual,
    ) -> None:
        super().__init__(encoder)
        if neighbors < 0 or not 0 <= warmup <= 1 or not 0 <= weight <= 1:
            raise ValueError(
                f"neighbors is {neighbors}, warmup {warmup}, weight {weight}: give at least 0, and "
                "shares from 0 to 1"
            )
        self.projector = head(encoder.dim, dim)
        self.temperature, self.neighbors = temperature, neighbors
        self.warmup, self.weight, self.rule = warmup, weight, rule

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """NT-Xent with the mined samples as further positives."""
        h = self.encoder(torch.cat(batch["views"]))
        z1, z2 = self.projector(h).chunk(2)
        count = neighbors_at(self.clock, most=self.neighbors, warmup=self.warmup)
        also = self.weight * mined(z1, z2, count=count, rule=self.rule)
        loss = multi_positive_nt_xent(z1, z2, also, temperature=self.temperature)
        return {"multi_positive_nt_xent": loss}


def neighbors_at(clock: Clock, *, most: int, warmup: float) -> int:
    """K: 0 in the warm-up, then 1, 2 ... ``most`` for equal parts of the rest of the run."""
    if clock.progress < warmup:
        return 0
    share = (clock.progress - warmup) / max(1 - warmup, 1e-9)
    return min(most, 1 + math.floor(most * share))


@torch.no_grad()
def mined(z1: Tensor, z2: Tensor, *, count: int, rule: Rule) -> Tensor:
    """[2B, N] of 0 and 1: the accepted ones among the ``count`` nearest samples of each anchor.

    An anchor's similarity to a sample is that to the nearer of its two views. The anchor's own
    sample is never among them.

    Raises:
        ValueError: the batch has no ``count`` other samples.
    """
    anchors = torch.cat([z1, z2])
    both = torch.stack([cosines(anchors, gather(z1)), cosines(anchors, gather(z2))])
    similarity = both.amax(0)
    samples = similarity.shape[1]
    if count >= samples:
        raise ValueError(
            f"neighbors is {count}, the batch has {samples} samples: give at most {samples - 1}, "
            "or a larger batch_size"
        )
    own = own_rows(torch.arange(samples, device=z1.device)).repeat(2)[:, None]
    similarity.scatter_(1, own, -torch.inf)
    named = torch.zeros_like(similarity, dtype=torch.bool)
    named.scatter_(1, hardest(similarity, count=count), True)
    return rule(named, similarity, paired_cosines(z1, z2)).to(similarity.dtype)


def paper() -> Recipe:
    """Fully trained version on SimCLR's setting: its 1000 epochs and 600 more (abstract)."""
    return replace(simclr.paper(), method=partial(AdpCLR), epochs=1600)


def pre() -> Recipe:
    """Pretrained version: 100 more epochs, from a SimCLR encoder given as ``--init``.

    Mines from the first step, at a tenth of SimCLR's rate.
    """
    return replace(
        simclr.paper(),
        method=partial(AdpCLR, warmup=0.0),
        optim=Optim(
            kind=Lars,
            lr=cosine(0.03, warmup=10),
            weight_decay=constant(1e-6),
            rules=(PLAIN_1D,),
        ),
        epochs=100,
    )


def small() -> Recipe:
    """Minutes on two CPU cores; shows that it learns and says nothing about ImageNet."""
    return replace(simclr.small(), method=partial(AdpCLR, warmup=0.3))
