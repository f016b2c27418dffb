"""Are All Negatives Created Equal in Contrastive Instance Discrimination? (2010.06682).

MoCo v2 that meets only some of its negatives: which of them does it need?
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import mean
from typing import Any, final

import torch
from torch import Tensor, nn

from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import small_resnet
from unlabeled.losses.similarities import info_nce_of
from unlabeled.method import Batch, Method, Sweep
from unlabeled.methods.image import moco_v2
from unlabeled.methods.image.moco_v2 import mlp_head
from unlabeled.nn.ema import Ema
from unlabeled.nn.norms import split_batchnorm
from unlabeled.nn.queue import Queue
from unlabeled.nn.shuffle import share_splits, shuffled_keys
from unlabeled.ops.mining import percentile_band
from unlabeled.ops.similarity import cosines, paired_cosines
from unlabeled.recipe import Recipe, Study
from unlabeled.views.generator import SampleGenerator

NO_RUN = -2  # a seed that no run has: the control and the views never draw the same numbers

Keep = Callable[[Tensor, SampleGenerator], Tensor]
"""(similarity [B, K], generator) -> [B, K] bool: the negatives that count for each query."""


def band(similarity: Tensor, generator: SampleGenerator, *, low: float, high: float) -> Tensor:
    """Keep the negatives between two percentiles of hardness, 0 the hardest (section 3)."""
    return percentile_band(similarity, low=low, high=high)


def random_share(similarity: Tensor, generator: SampleGenerator, *, percent: float) -> Tensor:
    """Keep as many negatives as a band of ``percent`` would, drawn blindly for each query."""
    drawn = generator.uniform(similarity.shape[1]).to(similarity.device)
    return percentile_band(drawn, low=0, high=percent)


@final
class FilteredMoCo(Method):
    """MoCo whose loss leaves out the negatives that ``keep`` does not mark; the key always counts.

    Difficulty is the cosine of query and negative under the current weights, ranked for each
    query at each step, before the keys of this step are pushed (section 3).

    Args:
        encoder: of the queries, without its head.
        keep: marks the negatives of each query that stay in the denominator.
        head: builds the head from (width, dim); the teacher has a copy.
        dim: width of queries and keys.
        queue: how many keys are kept.
        momentum: of the teacher.
        temperature: of InfoNCE.
        batchnorm_splits: as in MoCo.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        keep: Keep,
        head: Callable[[int, int], nn.Module] = mlp_head,
        dim: int = 128,
        queue: int = 65536,
        momentum: float = 0.999,
        temperature: float = 0.2,
        batchnorm_splits: int = 8,
    ) -> None:
        super().__init__(split_batchnorm(encoder, splits=batchnorm_splits))
        self.projector = head(encoder.dim, dim)
        self.teacher = Ema(self.student)
        self.queue = Queue(queue, dim)
        self.keep, self.momentum, self.temperature = keep, momentum, temperature
        self.batchnorm_splits = batchnorm_splits

    @property
    def student(self) -> nn.Sequential:
        """The network whose moving average makes the keys."""
        return nn.Sequential(self.encoder, self.projector)

    def before_step(self, sweep: Sweep) -> None:
        """Divide the splits of the batch among the ranks, which hold a part of it each."""
        share_splits(self, splits=self.batchnorm_splits)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """InfoNCE of q with its key against the negatives that are kept."""
        x_q, x_k = batch["views"]
        q, k = self.student(x_q), shuffled_keys(self.teacher, x_k, seed=self.clock.step)
        similarity = cosines(q, self.queue.rows)
        generator = SampleGenerator(NO_RUN, self.clock.step, batch["index"])
        kept = self.keep(similarity.detach(), generator)
        negatives = similarity.masked_fill(~kept, -torch.inf)
        loss = info_nce_of(paired_cosines(q, k), negatives, temperature=self.temperature)
        self.queue.push(k)
        return {"info_nce": loss}

    def after_step(self) -> None:
        """Move the teacher."""
        self.teacher.update(self.student, momentum=self.momentum)


KEPT: Mapping[str, Keep] = {
    "all": partial(band, low=0, high=100),
    "hardest_5": partial(band, low=0, high=5),
    "hardest_20": partial(band, low=0, high=20),
    "easiest_95": partial(band, low=5, high=100),
    "easiest_50": partial(band, low=50, high=100),
    "without_hardest_0.5": partial(band, low=0.5, high=100),
    "random_5": partial(random_share, percent=5),
    "random_50": partial(random_share, percent=50),
}


def report(scores: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """Hold the paper's claims against the linear probe (sections 4 and 5)."""
    linear = {name: mean(values) for name, values in scores["linear"].items()}
    whole = linear["all"]
    claims = (
        ("the hardest 5 % suffice: within 1.5 points of all", whole - linear["hardest_5"], 1.5),
        ("the hardest 20 % suffice: within 1.5 points of all", whole - linear["hardest_20"], 1.5),
        (
            "the hardest 0.5 % are not needed: within 1.5 points without them",
            whole - linear["without_hardest_0.5"],
            1.5,
        ),
        (
            "the easiest 95 % do not suffice: 3 points below all or more",
            linear["easiest_95"] - whole,
            -3.0,
        ),
        (
            "the easiest 50 % do not suffice: 3 points below all or more",
            linear["easiest_50"] - whole,
            -3.0,
        ),
    )
    return [
        f"{'reproduced' if gap <= bound else 'not reproduced'}: {claim} (linear, {gap:+.1f})"
        for claim, gap, bound in claims
    ]


def _study(base: Recipe, **options: Any) -> Study:
    recipes = {
        name: replace(base, method=partial(FilteredMoCo, keep=keep, **options))
        for name, keep in KEPT.items()
    }
    return Study(recipes=recipes, evaluators=("knn", "linear", "effective_rank"), report=report)


def paper() -> Study:
    """MoCo v2 on ImageNet, ResNet-50, 200 epochs, 65,536 keys (section 3)."""
    return _study(replace(moco_v2.paper(), epochs=200))


def small() -> Study:
    """The same bands of 2,048 keys on Fashion-MNIST, a narrow encoder, one epoch a recipe."""
    base = replace(moco_v2.small(), encoder=partial(small_resnet, widths=(8, 16, 64)), epochs=1)
    return _study(base, queue=2048, momentum=0.99, batchnorm_splits=4)
