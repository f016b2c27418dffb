"""Clustering: whether clusters of the features are the classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.source import DataSource
from unlabeled.evaluators.evaluator import Measure, check_labels, embed_both, flatten
from unlabeled.features import Features

if TYPE_CHECKING:
    from jaxtyping import Int


def contingency(
    cluster: Int[Tensor, " N"], label: Int[Tensor, " N"], *, clusters: int, classes: int
) -> Int[Tensor, "K C"]:
    """Return how many samples of each cluster are of each class."""
    pairs = cluster * classes + label
    return pairs.bincount(minlength=clusters * classes).view(clusters, classes)


def matched_accuracy(cluster: Int[Tensor, " N"], label: Int[Tensor, " N"]) -> float:
    """Share of samples in the class of their cluster, each cluster with one class, at best.

    The assignment is the one with the most hits (Kuhn 1955); clusters beyond the classes have none.
    """
    from scipy.optimize import linear_sum_assignment

    clusters, classes = int(cluster.max()) + 1, int(label.max()) + 1
    table = contingency(cluster, label, clusters=clusters, classes=classes)
    row, column = linear_sum_assignment(table.numpy(), maximize=True)
    return float(table[row, column].sum() / len(label))


def agreement(cluster: Int[Tensor, " N"], label: Int[Tensor, " N"]) -> dict[str, float]:
    """NMI, ARI and matched accuracy of given assignments with classes, in percent.

    For labels that a method keeps itself as well as for those of k-means. NMI is normalized by the
    arithmetic mean of the entropies; ARI is corrected for chance. Numbers of clusters mean nothing.

    Args:
        cluster: of each sample, from 0.
        label: the class of each sample, from 0.

    Raises:
        ValueError: the two are not of one length, or empty.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    if cluster.shape != label.shape or cluster.ndim != 1 or not len(cluster):
        raise ValueError(
            f"cluster is {tuple(cluster.shape)} and label {tuple(label.shape)}: give one of each "
            "for every sample"
        )
    cluster, label = cluster.cpu().long(), label.cpu().long()
    scores = {
        "nmi": normalized_mutual_info_score(label.numpy(), cluster.numpy()),
        "ari": adjusted_rand_score(label.numpy(), cluster.numpy()),
        "matched": matched_accuracy(cluster, label),
    }
    return {metric: 100 * float(value) for metric, value in scores.items()}


@dataclass(frozen=True, kw_only=True)
class Clustering:
    """NMI, ARI and matched accuracy of k-means on unit features, in percent.

    Centers are fitted on the features of train without labels (k-means++, the best of ``starts``),
    and the samples of test go to their nearest. Figures are those of `agreement`, which takes
    assignments that are there already.

    Args:
        clusters: k; None takes the number of classes.
        starts: of k-means.
        most: training samples that it is fitted on, evenly spread.
        seed: of k-means.
    """

    clusters: int | None = None
    starts: int = 3
    most: int = 20_000
    seed: int = 0
    name: str = "clustering"
    needs: str = "embed"
    every: int | None = None

    @property
    def protocol(self) -> str:
        """``clustering/kmeans-v1``, with k where it is not the number of classes."""
        k = "" if self.clusters is None else f"-k{self.clusters}"
        return f"clustering/kmeans{k}-v1"

    def __call__(self, predict: Any, data: DataSource) -> dict[str, float]:
        """Embed both splits and score them."""
        return flatten(self.score(*embed_both(predict, data)), self.name)

    def score(self, train: Features, test: Features) -> list[Measure]:
        """Fit on train without labels, read test's labels once."""
        from sklearn.cluster import KMeans

        _, truth, classes = check_labels(train, test)
        step = -(-len(train) // self.most)
        fitted = F.normalize(train.x[::step], dim=1)
        k = min(self.clusters or classes, len(fitted))
        found = KMeans(k, n_init=self.starts, random_state=self.seed).fit(fitted.numpy())
        cluster = found.predict(F.normalize(test.x, dim=1).numpy())
        values = agreement(torch.from_numpy(cluster), truth)
        return [
            Measure(
                metric=metric,
                value=value,
                train=len(fitted),
                test=len(test),
                details={"k": k},
            )
            for metric, value in values.items()
        ]
