"""SvmFolds: a support vector machine over ten folds, as graph embeddings are judged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from unlabeled.data.source import DataSource
from unlabeled.evaluators.evaluator import Measure, check_labels, embed_both, flatten
from unlabeled.features import Features

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)


@dataclass(frozen=True, kw_only=True)
class SvmFolds:
    """Mean accuracy of an SVM (radial kernel) over stratified folds of all labeled samples.

    Graph data sets are small and have no test split of their own, so both splits are joined and
    divided into ten folds; features are standardized, and C is chosen by five folds inside the
    nine that train (as in InfoGraph, arXiv:1908.01000, section 4.1).

    Args:
        folds: outer folds.
        seed: of the folds.
        every: epochs between two calls during training, None for never.
    """

    name: ClassVar[str] = "svm"
    needs: ClassVar[str] = "embed"
    protocol: ClassVar[str] = "svm/folds10-v1"
    folds: int = 10
    seed: int = 0
    every: int | None = None

    def score(self, train: Features, test: Features) -> list[Measure]:
        """Join the splits and return accuracy, a trial a fold."""
        from sklearn.model_selection import GridSearchCV, StratifiedKFold
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC

        label, truth, _ = check_labels(train, test, fewest=2)
        x = torch.cat([train.x, test.x]).double().cpu().numpy()
        y = torch.cat([label, truth]).cpu().numpy()
        fewest = int(torch.bincount(torch.as_tensor(y)).min())
        if fewest < self.folds:
            raise ValueError(
                f"a class has {fewest} samples, and there are {self.folds} folds: give fewer folds"
            )
        model = GridSearchCV(
            make_pipeline(StandardScaler(), SVC()), {"svc__C": STRENGTHS}, cv=min(5, fewest)
        )
        hits = torch.zeros(len(y))
        trials = []
        outer = StratifiedKFold(self.folds, shuffle=True, random_state=self.seed)
        for fitted, held in outer.split(x, y):
            right = torch.as_tensor(model.fit(x[fitted], y[fitted]).predict(x[held]) == y[held])
            hits[torch.as_tensor(held)] = right.float()
            trials.append(100 * float(right.double().mean()))
        value = math.fsum(trials) / len(trials)
        return [
            Measure(
                metric="accuracy",
                value=value,
                trials=tuple(trials),
                train=len(y) - len(y) // self.folds,
                test=len(y),
                hits=hits,
                details={"strengths": list(STRENGTHS), "folds": self.folds},
            )
        ]

    def __call__(self, predict: object, data: DataSource) -> dict[str, float]:
        """Embed both splits and score them."""
        return flatten(self.score(*embed_both(predict, data)), self.name)
