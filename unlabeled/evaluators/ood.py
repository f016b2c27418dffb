"""Out of distribution: whether frozen features tell what a detector has not been shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from unlabeled.data.order import permutation
from unlabeled.data.source import DataSource
from unlabeled.evaluators.evaluator import Measure, check_labels, embed_both, flatten
from unlabeled.features import Features, embed
from unlabeled.ops.knn import search
from unlabeled.ops.mahalanobis import Standardizer, fit_gaussian, rank_scores

if TYPE_CHECKING:
    from jaxtyping import Float

K = 10
ROWS = 10_000


class Detector:
    """Two outlier scores by the features of what is known, neither of which takes labels.

    Args:
        train: [N, d], what is known.
        k: which neighbor's distance counts.

    Raises:
        ValueError: fewer than k samples.
    """

    def __init__(self, train: Float[Tensor, "N d"], *, k: int) -> None:
        if len(train) < k:
            raise ValueError(f"k is {k}, and {len(train)} samples are known: give a smaller k")
        self.bank, self.k = train, k
        self.standard = Standardizer.of(train)
        # shrunk, since there may be fewer samples than dimensions (raw input)
        self.gaussian = fit_gaussian(self.standard(train), shrink=True)

    def scores(self, x: Float[Tensor, "M d"]) -> dict[str, Float[Tensor, " M"]]:
        """Return the scores by name, large for outliers.

        ``knn``: distance to the k-th nearest of the known ones, all of unit length (Sun et al.
        2022, arXiv:2204.06507). ``mahalanobis``: to their mean, after unit length and
        standardization (SSD, section 3, one cluster; with Ledoit and Wolf's covariance).
        """
        likeness, _ = search(x, self.bank, k=self.k)
        return {
            "knn": (2 - 2 * likeness[:, -1]).clamp_min(0).sqrt(),
            "mahalanobis": self.gaussian.distance(self.standard(x)),
        }


@dataclass(frozen=True, kw_only=True)
class OutOfDistribution:
    """AUROC and FPR95 of test samples of held-out classes, which a detector has not been shown.

    Each trial holds out other classes: the detector sees training features of the rest, without
    their labels, and tells test samples of the rest from those of the held-out classes. The encoder
    may have seen images of all classes in its own training; for one that has not, train on
    `unlabeled.data.class_part.ClassPart` and judge with `Outliers`. Nothing is chosen.

    Args:
        share: of the classes that are held out, at least one, at most all but one.
        splits: trials.
        k: the neighbor whose distance is the kNN score.
        rows: training samples that are known, at most.
        seed: of the classes and the rows.
        every: epochs between two calls during training, None for never.

    Raises:
        ValueError: a share outside (0, 1), or counts below 1; at scoring, fewer known samples than
            k, or a split of which test has no inliers or no outliers.
    """

    name: ClassVar[str] = "ood"
    needs: ClassVar[str] = "embed"
    share: float = 0.3
    splits: int = 5
    k: int = K
    rows: int = ROWS
    seed: int = 0
    every: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share is {self.share}: give a share of the classes in (0, 1)")
        _check_counts(splits=self.splits, k=self.k, rows=self.rows)

    @property
    def protocol(self) -> str:
        """``ood/classes0.3-k10-v1``."""
        return f"ood/classes{self.share:g}-k{self.k}-v1"

    def score(self, train: Features, test: Features) -> list[Measure]:
        """Return AUROC and FPR95 of both scores, a trial a split."""
        label, truth, classes = check_labels(train, test)
        wanted = min(max(1, round(self.share * classes)), classes - 1)
        generator = torch.Generator().manual_seed(self.seed)
        outside: list[Tensor] = []
        found = []
        for _ in range(self.splits):
            held = torch.randperm(classes, generator=generator)[:wanted].sort().values
            inside = ~torch.isin(truth, held)
            if bool(inside.all()) or not bool(inside.any()):
                raise ValueError(
                    f"classes {held.tolist()} are held out, and test has "
                    f"{int(inside.sum())} others of {len(truth)} samples: give more of each class"
                )
            known = (~torch.isin(label, held)).nonzero().flatten()
            order = torch.randperm(len(known), generator=generator)[: self.rows]
            detector = Detector(train.x[known[order]], k=self.k)
            found.append(_ranked(detector, test.x[inside], test.x[~inside]))
            outside.append(held)
        assert train.label is not None
        names = train.label.unique()  # as the data numbers them
        details = {"held_out": [names[held].tolist() for held in outside]}
        return _measures(found, train=min(self.rows, len(train)), test=len(test), details=details)

    def __call__(self, predict: object, data: DataSource) -> dict[str, float]:
        """Embed both splits and score them."""
        return flatten(self.score(*embed_both(predict, data)), self.name)


@dataclass(frozen=True)
class Foreign:
    """AUROC and FPR95 of other data, by the scores of `OutOfDistribution`; no labels are read.

    The detector sees training features, and tells test samples from those of the other data.

    Args:
        foreign: data of the same modality, whose "test" are the outliers.
        k: the neighbor whose distance is the kNN score.
        rows: training samples that are known, at most.
        seed: of the rows.
        every: epochs between two calls during training, None for never.

    Raises:
        ValueError: counts below 1; at judging, fewer known samples than k.
    """

    foreign: DataSource
    _: KW_ONLY
    k: int = K
    rows: int = ROWS
    seed: int = 0
    every: int | None = None
    name: ClassVar[str] = "foreign"
    needs: ClassVar[str] = "encoder"

    def __post_init__(self) -> None:
        _check_counts(k=self.k, rows=self.rows)

    @property
    def protocol(self) -> str:
        """``foreign/emoji-k10-v1``."""
        return f"foreign/{self.foreign.name}-k{self.k}-v1"

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Fit on train, rank test and the other data."""
        return self._judged(predict, predict.spec, data)

    def plain(self, data: DataSource) -> list[Measure]:
        """The same of raw input."""
        return self._judged(data.raw, data.spec(), data)

    def __call__(self, predict: Any, data: DataSource) -> dict[str, float]:
        """Judge, as named values."""
        return flatten(self.judge(predict, data), self.name)

    def _judged(self, predict: Any, spec: Any, data: DataSource) -> list[Measure]:
        train, test = (embed(predict, data, split=name, spec=spec) for name in ("train", "test"))
        other = embed(predict, self.foreign, split="test", spec=spec)
        some = permutation(len(train), seed=self.seed, epoch=0)[: self.rows]
        found = _ranked(Detector(train.x[some], k=self.k), test.x, other.x)
        details = {"foreign": self.foreign.name, "outliers": len(other)}
        return _measures([found], train=len(some), test=len(test), details=details)


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} is {value}: give a number above 0")


def _ranked(detector: Detector, inside: Tensor, outside: Tensor) -> dict[str, dict[str, float]]:
    """Score -> metric -> value."""
    pairs = detector.scores(inside), detector.scores(outside)
    return {name: rank_scores(pairs[0][name], pairs[1][name]) for name in pairs[0]}


def _measures(
    found: Sequence[dict[str, dict[str, float]]], *, train: int, test: int, details: dict[str, Any]
) -> list[Measure]:
    measures = []
    for score in found[0]:
        precision = [each[score]["aupr"] for each in found]
        for metric in ("auroc", "fpr95"):
            trials = tuple(each[score][metric] for each in found)
            measures.append(
                Measure(
                    metric=f"{score}_{metric}",
                    value=sum(trials) / len(trials),
                    trials=trials,
                    train=train,
                    test=test,
                    higher_is_better=metric == "auroc",
                    details={**details, "aupr": precision},
                )
            )
    return measures
