"""The linear probe: logistic regression on frozen features, regularization chosen inside train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

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
from unlabeled.evaluators.logistic import Fit, Scaler, fit
from unlabeled.features import Features

if TYPE_CHECKING:
    from jaxtyping import Float, Int

STRENGTHS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
SWEEP_TOLERANCE = 1e-3
"""Nats: what is left to gain does not change which strength is best."""


def best_strength(score: Tensor) -> Tensor:
    """[..., G] -> [...]: the place of the best score; of equal ones the strongest, the last."""
    return score.shape[-1] - 1 - score.flip(-1).argmax(-1)


@dataclass(frozen=True)
class Probe:
    """A fitted linear classifier of features.

    Args:
        scale: standardizes them.
        solution: one problem on one data set.
        details: what was chosen, and how.
    """

    scale: Scaler
    solution: Fit
    details: dict[str, Any]

    def logits(self, x: Float[Tensor, "N d"]) -> Float[Tensor, "N C"]:
        """Return the logits of each class."""
        return self.solution.logits(self.scale(x)[None])[0, :, 0]

    def predict(self, x: Float[Tensor, "N d"]) -> Int[Tensor, " N"]:
        """Return the likeliest class."""
        return self.solution.predict(self.scale(x)[None])[0, :, 0]


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Multinomial logistic regression by L-BFGS on standardized features, L2 swept.

    Minimizes ``mean CE + strength / 2 |W|^2`` (no penalty on the bias). All strengths are fitted
    at once on a stratified part of train, at most ``most`` samples, of which ``held_out`` are
    set aside to choose the strength (of equal ones the strongest); that one is fitted again on
    all of train. Test is read once, after that. Mean and std are those of all training features.

    Args:
        strengths: the grid, in ascending order.
        held_out: share of the sweep's samples that choose.
        most: samples of the sweep.
        seed: of the stratified parts.
        every: epochs between two calls during training, None for never.

    Raises:
        ValueError: an empty, unordered or non-positive grid, or a share outside (0, 1).
    """

    name: ClassVar[str] = "linear"
    needs: ClassVar[str] = "embed"
    protocol: ClassVar[str] = "linear/lbfgs-v1"
    strengths: tuple[float, ...] = STRENGTHS
    held_out: float = 0.2
    most: int = 20_000
    seed: int = 0
    every: int | None = None

    def __post_init__(self) -> None:
        check_grid(self.strengths)
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}: give a share of train in (0, 1)")

    def score(self, train: Features, test: Features) -> list[Measure]:
        """Return top1, with the chosen strength, the grid and the counts in its details."""
        label, truth, classes = check_labels(train, test, fewest=2)
        probe = self.fitted(train.x, label, classes=classes)
        hits = (probe.predict(test.x) == truth)[None]
        return [measure("top1", hits, train=len(train), details=probe.details)]

    def fitted(self, x: Float[Tensor, "N d"], label: Int[Tensor, " N"], *, classes: int) -> Probe:
        """Choose the strength and fit the probe.

        Args:
            x: training features.
            label: 0 .. classes - 1, at least two samples of each.
            classes: how many.
        """
        scale = Scaler.fit(x)
        x = scale(x)
        generator = torch.Generator().manual_seed(self.seed)
        share = min(1.0, self.most / len(x))
        sweep, _ = draw(label, share=share, least=2, generator=generator)
        held, fitted = draw(label[sweep], share=self.held_out, least=1, generator=generator)
        held, fitted = sweep[held], sweep[fitted]
        grid = torch.tensor([self.strengths], device=x.device)
        swept = fit(
            x[fitted][None],
            label[fitted][None],
            classes=classes,
            strength=grid,
            tolerance=SWEEP_TOLERANCE,
        )
        right = swept.predict(x[held][None])[0] == label[held, None]  # [held, G]
        scores = 100 * right.double().mean(0)
        best = int(best_strength(scores))
        start = swept.weight[:, best : best + 1], swept.bias[:, best : best + 1]
        final = fit(
            x[None], label[None], classes=classes, strength=grid[:, best : best + 1], start=start
        )
        details = {
            "strength": self.strengths[best],
            "strengths": list(self.strengths),
            "held_out_top1": scores.tolist(),
            "at_edge": best in (0, len(self.strengths) - 1),
            "sweep_train": len(fitted),
            "sweep_held_out": len(held),
            "steps": final.steps,
            "converged": bool(final.converged.all()),
        }
        return Probe(scale, final, details)

    def __call__(self, predict: Any, data: DataSource) -> dict[str, float]:
        """Embed both splits and score them."""
        return flatten(self.score(*embed_both(predict, data)), self.name)


def check_grid(strengths: tuple[float, ...]) -> None:
    """Raise a ValueError unless the grid is positive and ascending."""
    if not strengths or strengths[0] <= 0 or list(strengths) != sorted(set(strengths)):
        raise ValueError(f"strengths are {strengths}: give positive numbers in ascending order")
