"""What evaluators share: the interface, measures, checks of labels, stratified draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from typing_extensions import TypeIs

from unlabeled.data.source import DataSource
from unlabeled.features import Features, embed


class Evaluator(Protocol):
    """Judges a predictor of a method on data.

    ``needs`` names the predictor (`Method.predictors`), ``every`` how many epochs pass between
    two calls during training (None: never).
    """

    @property
    def name(self) -> str:
        """Short name, for logs and the command line."""

    @property
    def needs(self) -> str:
        """Which predictor it asks for."""

    @property
    def every(self) -> int | None:
        """Epochs between two calls during training."""

    def __call__(self, predict: Any, data: DataSource) -> dict[str, float]:
        """Return named scores."""


class FeatureEvaluator(Evaluator, Protocol):
    """An evaluator of frozen features with labels."""

    @property
    def protocol(self) -> str:
        """The protocol's id: two figures compare only if it is the same."""

    def score(self, train: Features, test: Features) -> list[Measure]:
        """Fit on ``train``, read ``test`` once."""


class TaskEvaluator(Evaluator, Protocol):
    """An evaluator of what is no embedding: flow, renderings, outlier scores, actions.

    ``needs`` is a predictor of the method (``"flow"``) or what every encoder offers: ``"encoder"``
    (the network itself), ``"local"`` or ``"maps"``; anything but ``"embed"``. The floor of random
    weights is the same predictor of the same method, built afresh.
    """

    @property
    def protocol(self) -> str:
        """The protocol's id: two figures compare only if it is the same."""

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Judge the predictor; what is chosen is chosen inside train, test is read once."""

    def plain(self, data: DataSource) -> list[Measure]:
        """The floor without a network (no motion, the mean color, raw input); [] for none."""


def is_task(judge: Any) -> TypeIs[TaskEvaluator]:
    """Whether an evaluator, or the name of one, asks for something other than embeddings."""
    return not isinstance(judge, str) and judge.needs != "embed"


def device_of(predict: Any) -> torch.device:
    """Where a predictor computes: the device of the module that it is, or is a method of."""
    owner = getattr(predict, "__self__", predict)
    first = next(owner.parameters(), None) if isinstance(owner, nn.Module) else None
    return torch.device("cpu") if first is None else first.device


@dataclass(frozen=True)
class Figure:
    """A picture or a short film for the report.

    Args:
        title: a line above it.
        frames: [T, C, H, W] in [0, 1], C 1 or 3; one frame is a still picture.
        rate: frames a second.
    """

    title: str
    frames: Tensor
    rate: float = 8.0


@runtime_checkable
class Illustrator(Protocol):
    """An evaluator that also shows what it judges, in the report."""

    @property
    def needs(self) -> str:
        """Which predictor it asks for."""

    def figures(self, predict: Any, data: DataSource) -> list[Figure]:
        """Return a few pictures, cheap to make."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One figure of a protocol.

    Args:
        metric: its name.
        value: its value, accuracies in percent; the mean where there are several trials.
        trials: the value of each trial (draw or seed); by default the one of a deterministic
            protocol, ``(value,)``.
        train: labeled samples that were used.
        test: samples that were judged.
        hits: [test] share of trials in which each test sample was right, or with another unit
            than "%" each sample's own value, for paired comparisons.
        unit: "%" for shares, else what the value is measured in ("px", "dB"), or "".
        higher_is_better: the direction of progress.
        details: settings and what was chosen, plain values.
    """

    metric: str
    value: float
    trials: tuple[float, ...] = ()
    train: int = 0
    test: int
    hits: Tensor | None = None
    unit: str = "%"
    higher_is_better: bool = True
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.trials:
            object.__setattr__(self, "trials", (self.value,))

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over the trials; None for one trial."""
        return float(torch.tensor(self.trials).std()) if len(self.trials) > 1 else None


def measure(
    metric: str, hits: Tensor, *, train: int, details: dict[str, Any] | None = None
) -> Measure:
    """Return the accuracy in percent of ``hits`` [trials, N] bool."""
    trials = tuple((100 * hits.double().mean(1)).tolist())
    return Measure(
        metric=metric,
        value=sum(trials) / len(trials),
        trials=trials,
        train=train,
        test=hits.shape[1],
        hits=hits.float().mean(0),
        details=details or {},
    )


def flatten(measures: Sequence[Measure], name: str) -> dict[str, float]:
    """``{"knn/top1": 84.5, "knn/top1_std": 0.3}`` for logs."""
    values: dict[str, float] = {}
    for item in measures:
        values[f"{name}/{item.metric}"] = item.value
        if item.spread is not None:
            values[f"{name}/{item.metric}_std"] = item.spread
    return values


def embed_both(predict: Any, data: DataSource) -> tuple[Features, Features]:
    """Embed "train" and "test"."""
    return embed(predict, data, split="train"), embed(predict, data, split="test")


def check_labels(train: Features, test: Features, *, fewest: int = 1) -> tuple[Tensor, Tensor, int]:
    """Return train labels, test labels and the number of classes, renumbered 0 .. C - 1.

    Args:
        train: labeled features.
        test: labeled features of the same width.
        fewest: training samples that each class needs.

    Raises:
        ValueError: labels that are missing or negative, a single class, classes with too few
            samples, test labels that train lacks, other widths, features that are not finite.
    """
    for name, features in (("train", train), ("test", test)):
        if features.label is None:
            raise ValueError(
                f"{name} has no labels: give class folders, or ask for label-free scores only"
            )
        bad = (~torch.isfinite(features.x).all(1)).nonzero().flatten()
        if len(bad):
            raise ValueError(f"{name} feature {int(bad[0])} is not finite: embed the data again")
        if len(features) == 0 or int(features.label.min()) < 0:
            raise ValueError(f"{name} has samples without a label: leave them out")
    if train.x.shape[1] != test.x.shape[1]:
        raise ValueError(f"train has width {train.x.shape[1]}, test {test.x.shape[1]}")
    assert train.label is not None
    assert test.label is not None
    classes, label, counts = train.label.unique(return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise ValueError(
            f"all {len(train)} training labels are {int(classes[0])}: a score needs two classes"
        )
    unseen = test.label[~torch.isin(test.label, classes)].unique().tolist()
    if unseen:
        raise ValueError(
            f"test has labels that train never has ({_some(unseen)}): "
            "leave these samples out or add some to train"
        )
    rare = classes[counts < fewest].tolist()
    if rare:
        raise ValueError(
            f"too few training samples in class {_some(rare)}: each class needs {fewest}, since "
            "a setting is chosen on labels held out of train (kNN needs only one)"
        )
    return label, torch.searchsorted(classes, test.label), len(classes)


def _some(values: list[int]) -> str:
    shown = ", ".join(str(value) for value in values[:5])
    return shown if len(values) <= 5 else f"{shown} and {len(values) - 5} more"


# Stratified draws --------------------------------------------------------------------------------


def ranks_in_class(label: Tensor, classes: int, generator: torch.Generator) -> Tensor:
    """[N] int64: the place of each sample among those of its class, in random order."""
    order = torch.randperm(len(label), generator=generator)
    inside = one_hot(label[order], classes).cumsum(0).gather(1, label[order, None]).squeeze(1) - 1
    return torch.empty_like(inside).scatter_(0, order, inside)


def draw(
    label: Tensor, *, share: float, least: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Places of a stratified draw and of the rest, each in ascending order.

    Each class gives ``round(share * count)`` samples, at least ``least``, at most all.
    """
    classes = int(label.max()) + 1
    counts = label.bincount(minlength=classes)
    wanted = (share * counts.double()).round().long().clamp_min(least).clamp_max(counts)
    chosen = ranks_in_class(label, classes, generator) < wanted[label]
    return chosen.nonzero().flatten(), (~chosen).nonzero().flatten()
