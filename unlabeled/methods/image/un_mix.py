"""Un-Mix: Rethinking Image Mixture for Unsupervised Visual Representation Learning (2003.05438)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from unlabeled.encoders.encoder import Encoder
from unlabeled.losses.clustering import swapped_prediction
from unlabeled.losses.contrastive import info_nce, nt_xent
from unlabeled.losses.distillation import regression
from unlabeled.method import Batch, Method, Sweep
from unlabeled.methods.image import moco_v2
from unlabeled.methods.image.byol import BYOL
from unlabeled.methods.image.moco import MoCo
from unlabeled.methods.image.moco_v2 import mlp_head
from unlabeled.methods.image.simclr import SimCLR
from unlabeled.methods.image.swav import SwAV
from unlabeled.nn.shuffle import shuffled_keys
from unlabeled.ops.mixture import draw_mixture, mix, reversed_rows
from unlabeled.recipe import Recipe


@final
class UnMix(Method):
    """A base method with two more terms for mixtures of the batch with its reverse order.

    Algorithm 1: sample i of the first view is mixed with sample B - 1 - i, with one weight
    lambda for the batch. Against the unchanged targets of the base,
    ``L = L(x1) + lambda L(mixture) + (1 - lambda) L(mixture in reverse order)``: slot i of the
    reverse holds the mixture in which image i has the share 1 - lambda. The student sees the
    mixtures in one more forward pass, the targets are made once.

    Args:
        encoder: the base's.
        base: builds MoCo (any head), SimCLR, BYOL or SwAV from the encoder.
        global_share: probability that images are mixed everywhere rather than by a region, P;
            1 is the first version of the paper.
        beta: the weight is Beta(beta, beta).
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        base: Callable[[Encoder], Method],
        global_share: float = 0.5,
        beta: float = 1.0,
    ) -> None:
        method = base(encoder)
        if type(method) not in _COMPARISONS:
            known = ", ".join(kind.__name__ for kind in _COMPARISONS)
            raise ValueError(f"base is {type(method).__name__}: Un-Mix wraps {known}")
        super().__init__(method.encoder)
        self.base = method
        self.global_share, self.beta = global_share, beta

    def before_step(self, sweep: Sweep) -> None:
        """Let the base prepare."""
        self.base.clock = self.clock
        self.base.before_step(sweep)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The base's own loss and the two of the mixtures; a queue then gets its keys once."""
        self.base.clock = self.clock
        x = batch["views"][0]
        height, width = x.shape[-2:]
        mixture = draw_mixture(
            seed=self.clock.step,
            height=height,
            width=width,
            global_share=self.global_share,
            beta=self.beta,
        )
        mixed = mix(x, reversed_rows(x), mixture)
        found = _COMPARISONS[type(self.base)](self.base, batch, mixed)
        losses = {
            "original": found.original,
            "mixture": mixture.weight * found.against(found.query),
            "reverse": (1 - mixture.weight) * found.against(reversed_rows(found.query)),
        }
        found.finish()
        return losses

    def after_step(self) -> None:
        """Let the base move its teacher."""
        self.base.clock = self.clock
        self.base.after_step()

    def predictors(self) -> dict[str, Callable[..., Any]]:
        """The base's."""
        return self.base.predictors()


class Comparison(NamedTuple):
    """What a base makes of a batch and of the mixed images."""

    original: Tensor
    """Its own loss."""
    query: Tensor
    """[B, D]: the student's output for the mixed images, which pass it in a batch of their own."""
    against: Callable[[Tensor], Tensor]
    """Its loss of a query against the targets that were made for ``original``."""
    finish: Callable[[], None]
    """What it does after a loss, once."""


def _moco(base: MoCo, batch: Batch, mixed: Tensor) -> Comparison:
    """One key and one queue for all three terms (the authors' code)."""
    x_q, x_k = batch["views"]
    q = base.student(x_q)
    k = shuffled_keys(base.teacher, x_k, seed=base.clock.step)
    compare = partial(info_nce, k=k, bank=base.queue.rows, temperature=base.temperature)
    return Comparison(compare(q), base.student(mixed), compare, partial(base.queue.push, k))


def _simclr(base: SimCLR, batch: Batch, mixed: Tensor) -> Comparison:
    """The mixture takes the place of the first view among the 2B views."""
    z1, z2 = base.projector(base.encoder(torch.cat(batch["views"]))).chunk(2)
    query = base.projector(base.encoder(mixed))
    compare = partial(nt_xent, z2=z2, temperature=base.temperature)
    return Comparison(compare(z1), query, compare, _nothing)


def _byol(base: BYOL, batch: Batch, mixed: Tensor) -> Comparison:
    """Both views' targets, as in the authors' symmetric form: the mixture is of view 1 only."""
    x1, x2 = batch["views"]
    p1, p2 = base.predictor(base.student(x1)), base.predictor(base.student(x2))
    z1, z2 = base.teacher(x1), base.teacher(x2)
    original = regression(p1, z2) + regression(p2, z1)
    query = base.predictor(base.student(mixed))
    return Comparison(original, query, lambda p: regression(p, z1) + regression(p, z2), _nothing)


def _swav(base: SwAV, batch: Batch, mixed: Tensor) -> Comparison:
    """Mixtures of the first crop predict the codes of the other assigning crops."""
    z = base._features(batch["views"])
    scores = [base._scores(crop) for crop in z]
    codes = base._codes(z, scores)
    original = swapped_prediction(scores, codes, temperature=base.temperature)
    query = base._scores(*base._features([mixed]))

    def against(query: Tensor) -> Tensor:
        pairs = [
            swapped_prediction([scores[0], query], [code], temperature=base.temperature)
            for code in codes[1:]
        ]
        return torch.stack(pairs).mean()

    return Comparison(original, query, against, _nothing)


def _nothing() -> None:
    """The base has no state that a loss changes, or has changed it already (SwAV's codes)."""


_COMPARISONS: dict[type[Method], Callable[[Any, Batch, Tensor], Comparison]] = {
    MoCo: _moco,
    SimCLR: _simclr,
    BYOL: _byol,
    SwAV: _swav,
}


def paper() -> Recipe:
    """MoCo v2 with mixtures, 200 epochs at batch 256 (the authors' ImageNet code).

    P = 0.5, beta = 1, temperature 0.2 for all terms; everything else is MoCo v2's.
    """
    return replace(
        moco_v2.paper(),
        method=partial(UnMix, base=partial(MoCo, head=mlp_head, temperature=0.2)),
        epochs=200,
    )


def small() -> Recipe:
    """Minutes on two CPU cores; shows that it learns and says nothing about ImageNet."""
    return replace(
        moco_v2.small(),
        method=partial(
            UnMix,
            base=partial(
                MoCo, head=mlp_head, queue=4096, momentum=0.99, temperature=0.2, batchnorm_splits=4
            ),
        ),
    )
