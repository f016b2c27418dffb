"""Calibration: whether the linear probe is right as often as it says, before and after scaling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from unlabeled.data.source import DataSource
from unlabeled.evaluators.evaluator import (
    Measure,
    check_labels,
    draw,
    embed_both,
    flatten,
    measure,
)
from unlabeled.evaluators.linear import Linear
from unlabeled.features import Features

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

PROBE = Linear()
BINS = 15
LARGEST = 20.0
"""Temperatures are sought from its inverse up to it."""


class Reliability(NamedTuple):
    """How sure and how right the predictions of each bin are; an empty bin has zeros."""

    samples: Int[Tensor, " K"]
    confidence: Float[Tensor, " K"]
    accuracy: Float[Tensor, " K"]

    @property
    def error(self) -> float:
        """``ECE = sum_b |B_b| / N |accuracy(b) - confidence(b)|`` (Guo et al. 2017, eq. 3)."""
        share = self.samples.double() / self.samples.sum()
        return float((share * (self.accuracy - self.confidence).abs()).sum())

    def parts(self, confidence: Float[Tensor, " N"], hits: Bool[Tensor, " N"]) -> Tensor:
        """[N] each sample's part of the error, their mean: ``hit - confidence`` or its negative.

        The sign is that of its bin, so that errors are compared sample by sample.
        """
        sign = (self.accuracy - self.confidence).sign()
        return sign[_bin(confidence, len(sign))] * (hits.double() - confidence.double())


def reliability(
    confidence: Float[Tensor, " N"], hits: Bool[Tensor, " N"], *, bins: int = BINS
) -> Reliability:
    """Sort predictions into bins of equal width, ``[b / bins, (b + 1) / bins)``, 1 in the last.

    Args:
        confidence: probability of the predicted class.
        hits: whether it is the true one.
        bins: how many.
    """
    place = _bin(confidence, bins)
    count = place.bincount(minlength=bins)
    sums = torch.zeros(2, bins, dtype=torch.float64, device=place.device)
    sums.index_add_(1, place, torch.stack([confidence.double(), hits.double()]))
    mean = sums / count.clamp_min(1)
    return Reliability(count, mean[0], mean[1])


def _bin(confidence: Tensor, bins: int) -> Tensor:
    return (confidence.double() * bins).long().clamp_max(bins - 1)


def best_temperature(logits: Float[Tensor, "N C"], label: Int[Tensor, " N"]) -> float:
    """The T in [1 / 20, 20] that minimizes the mean of ``CE(softmax(logits / T), label)``.

    The loss is convex in 1 / T with slope ``mean(E_p[logits] - logits[label])``, whose sign
    bisection follows. Where all labels have the largest logit T has no minimum but its bound.
    """
    z = logits.double()
    right = z.gather(1, label[:, None])[:, 0].mean()
    low, high = -math.log(LARGEST), math.log(LARGEST)  # of log(1 / T)
    for _ in range(60):
        middle = (low + high) / 2
        expected = ((math.exp(middle) * z).softmax(1) * z).sum(1).mean()
        low, high = (low, middle) if expected > right else (middle, high)
    return math.exp(-(low + high) / 2)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """ECE, NLL and Brier score of the linear probe's probabilities on test.

    ``nll`` is the mean of ``-log p[y]`` in nats, ``brier`` that of ``sum_c (p_c - [c = y])^2`` in
    percent (up to 200), ``ece`` as `Reliability.error` in percent. Those that end in ``_scaled``
    are of ``softmax(logits / T)``, which changes no prediction. The probe is fitted without a
    stratified part of train, on which T is chosen (Guo et al. 2017, arXiv:1706.04599, section 4.2);
    test is read once.

    Args:
        bins: of the ECE.
        held_out: share of train that chooses T.
        probe: the linear probe.
        seed: of that part.
        every: epochs between two calls during training, None for never.

    Raises:
        ValueError: no bins, or a share outside (0, 0.5).
    """

    name: ClassVar[str] = "calibration"
    needs: ClassVar[str] = "embed"
    bins: int = BINS
    held_out: float = 0.2
    probe: Linear = PROBE
    seed: int = 0
    every: int | None = None

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise ValueError(f"bins is {self.bins}: give a number above 0")
        if not 0 < self.held_out < 0.5:
            raise ValueError(f"held_out is {self.held_out}: give a share of train in (0, 0.5)")

    @property
    def protocol(self) -> str:
        """``calibration/ece15-v1``."""
        return f"calibration/ece{self.bins}-v1"

    def score(self, train: Features, test: Features) -> list[Measure]:
        """Return top1, then each figure before and after scaling."""
        label, truth, classes = check_labels(train, test, fewest=3)
        generator = torch.Generator().manual_seed(self.seed)
        held, fitted = draw(label, share=self.held_out, least=1, generator=generator)
        probe = self.probe.fitted(train.x[fitted], label[fitted], classes=classes)
        temperature = best_temperature(probe.logits(train.x[held]), label[held])
        logits = probe.logits(test.x).double()
        hits = logits.argmax(1) == truth
        facts = {
            "temperature": temperature,
            "at_edge": not 1.01 / LARGEST < temperature < LARGEST / 1.01,
            "held_out": len(held),
            "strength": probe.details["strength"],
        }
        found = [measure("top1", hits[None], train=len(train), details=facts)]
        for ending, divisor in (("", 1.0), ("_scaled", temperature)):
            found += self._figures(logits / divisor, truth, hits, ending, len(train), facts)
        return found

    def __call__(self, predict: object, data: DataSource) -> dict[str, float]:
        """Embed both splits and score them."""
        return flatten(self.score(*embed_both(predict, data)), self.name)

    def _figures(
        self,
        logits: Tensor,
        truth: Tensor,
        hits: Tensor,
        ending: str,
        train: int,
        facts: dict[str, Any],
    ) -> list[Measure]:
        likely = logits.log_softmax(1)
        chance = likely.exp()
        confidence = chance.amax(1)
        table = reliability(confidence, hits, bins=self.bins)
        surprise = -likely.gather(1, truth[:, None])[:, 0]
        # sum_c p_c^2 - 2 p_y + 1
        apart = chance.square().sum(1) - 2 * (-surprise).exp() + 1
        shared: dict[str, Any] = {"train": train, "test": len(truth), "higher_is_better": False}
        bins = {name: value.tolist() for name, value in table._asdict().items()}
        return [
            Measure(
                metric=f"ece{ending}",
                value=100 * table.error,
                hits=table.parts(confidence, hits),
                details={**facts, "bins": bins},
                **shared,
            ),
            Measure(
                metric=f"nll{ending}",
                value=float(surprise.mean()),
                hits=surprise,
                unit="nats",
                details=facts,
                **shared,
            ),
            Measure(
                metric=f"brier{ending}",
                value=100 * float(apart.mean()),
                hits=apart,
                details=facts,
                **shared,
            ),
        ]
