"""The linear probe with few labels, several draws of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

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
    ranks_in_class,
)
from unlabeled.evaluators.linear import SWEEP_TOLERANCE, best_strength, check_grid
from unlabeled.evaluators.logistic import Scaler, fit
from unlabeled.features import Features

MOST_FOLDS = 5
STRENGTHS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
"""Few labels need more than the grid of `Linear`."""


@dataclass(frozen=True, kw_only=True)
class FewLabels:
    """The probe of `Linear` with a share of the labels: mean over seeded, stratified draws.

    Each class gives ``round(share * count)`` labels, at least two. Each draw chooses its strength
    by the likelihood in cross-validation inside its own labels (stratified, at most five folds):
    accuracy on so few would choose at random. Mean and std of
    the features are those of all of train: they need no labels. All draws, folds and strengths
    are fitted at once. The spread is the standard deviation over the draws.

    Args:
        share: of the labels of each class.
        draws: how many.
        strengths: the grid, in ascending order.
        seed: of the draws.
        every: epochs between two calls during training, None for never.

    Raises:
        ValueError: a share outside (0, 1], no draw, or a wrong grid.
    """

    name: ClassVar[str] = "fewlabel"
    needs: ClassVar[str] = "embed"
    share: float = 0.01
    draws: int = 5
    strengths: tuple[float, ...] = STRENGTHS
    seed: int = 0
    every: int | None = None

    def __post_init__(self) -> None:
        check_grid(self.strengths)
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}: give a share of the labels in (0, 1]")
        if self.draws < 1:
            raise ValueError(f"draws is {self.draws}: give at least 1")

    @property
    def protocol(self) -> str:
        """``fewlabel/lbfgs-cv-v1``, with the share where it is not 1 %."""
        share = "" if self.share == 0.01 else f"/{100 * self.share:g}%"
        return f"fewlabel/lbfgs-cv-v1{share}"

    def draw(self, label: Tensor) -> Tensor:
        """[draws, n]: which training samples each draw sees the labels of, in ascending order."""
        return torch.stack(
            [
                draw(label, share=self.share, least=2, generator=self._generator(number))[0]
                for number in range(self.draws)
            ]
        )

    def score(self, train: Features, test: Features) -> list[Measure]:
        """Return top1 of the draws, with the strength that each chose in its details."""
        label, truth, classes = check_labels(train, test, fewest=2)
        scale = Scaler.fit(train.x)
        places = self.draw(label)
        x, few = scale(train.x[places.flatten()]).view(*places.shape, -1), label[places]
        folds, fold = self._folds(few, classes)
        grid = torch.tensor(self.strengths, device=x.device)
        kept = (fold[:, None] != torch.arange(folds)[None, :, None]).to(x)  # [draws, folds, n]
        swept = fit(
            x,
            few,
            classes=classes,
            strength=grid.repeat(self.draws, folds),
            weight=kept.repeat_interleave(len(grid), 1),
            tolerance=SWEEP_TOLERANCE,
        )
        likely = swept.log_likelihood(x, few).view(*few.shape, folds, len(grid))
        held = (1 - kept).transpose(1, 2)[..., None]  # [draws, n, folds, 1]
        scores = (likely * held).sum((1, 2)).double() / few.shape[1]  # [draws, G]
        best = best_strength(scores)
        final = fit(x, few, classes=classes, strength=grid[best][:, None])
        guess = final.predict(scale(test.x).expand(self.draws, -1, -1))[..., 0]
        details = {
            "share": self.share,
            "draws": self.draws,
            "strength": [self.strengths[place] for place in best.tolist()],
            "strengths": list(self.strengths),
            "folds": folds,
            "fewest_per_class": int(few[0].bincount().min()),
            "most_per_class": int(few[0].bincount().max()),
            "converged": bool(final.converged.all()),
        }
        return [measure("top1", guess == truth, train=few.shape[1], details=details)]

    def __call__(self, predict: Any, data: DataSource) -> dict[str, float]:
        """Embed both splits and score them."""
        return flatten(self.score(*embed_both(predict, data)), self.name)

    def _generator(self, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * 1_000_003 + number)

    def _folds(self, few: Tensor, classes: int) -> tuple[int, Tensor]:
        """The number of folds, and [draws, n] which one each label is held out in."""
        folds = min(MOST_FOLDS, int(few[0].bincount(minlength=classes).min()))
        ranks = [
            ranks_in_class(few[number], classes, self._generator(number))
            for number in range(self.draws)
        ]
        return folds, torch.stack(ranks) % folds
