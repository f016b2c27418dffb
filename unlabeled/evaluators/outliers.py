"""Outliers: whether features tell what training never saw, by SSD's Mahalanobis distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unlabeled.data.blobs import blobs
from unlabeled.data.source import DataSource, ImageSpec
from unlabeled.evaluators.evaluator import Measure, device_of
from unlabeled.features import Features, embed
from unlabeled.ops.mahalanobis import Standardizer, cluster_distance, fit_gaussian, rank_scores
from unlabeled.views.augment import Augment
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import OneView

if TYPE_CHECKING:
    from jaxtyping import Float

FAR = 1000


@dataclass(frozen=True, kw_only=True)
class Outliers:
    """AUROC, AUPR and FPR95 of the other classes (near), of generated blobs (far), and of SSD_k.

    Features before the head, unit length, standardized by the training mean and deviation; the
    score is the Mahalanobis distance to the nearest of m clusters of the training features (SSD,
    section 3). SSD_k subtracts the distance to ``shots`` known outliers of each class, which are
    taken out of the test, both by Ledoit and Wolf's covariance (section 3.2).

    The data has the splits "train", "test" (more of the same) and "outliers", such as `ClassPart`.

    Args:
        clusters: m; 1 is best for features without labels (figure 3).
        shots: k of SSD_k, 0 for none.
        copies: views of each known outlier.
        augment: of these views: that of the training.
        seed: of the choice of known outliers, of their views, and of k-means.
    """

    augment: Augment
    clusters: int = 1
    shots: int = 5
    copies: int = 10
    seed: int = 0
    name: str = "outliers"
    needs: str = "encoder"
    every: int | None = None

    @property
    def protocol(self) -> str:
        """``outliers/ssd-m1-k5-v1``."""
        return f"outliers/ssd-m{self.clusters}-k{self.shots}-v1"

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Fit on train without labels; the labels of outliers only choose the known ones."""
        return self._measures(predict, predict.spec, data)

    def plain(self, data: DataSource) -> list[Measure]:
        """The same of raw input."""
        return self._measures(data.raw, data.spec(), data)

    def _measures(self, predict: Any, spec: ImageSpec, data: DataSource) -> list[Measure]:
        train, test, near = (
            embed(predict, data, split=split, spec=spec) for split in ("train", "test", "outliers")
        )
        standard = Standardizer.of(train.x)
        fitted = standard(train.x)
        cluster = _clusters(fitted, self.clusters, self.seed)
        inside = cluster_distance(standard(test.x), fitted, cluster)

        def score(x: Tensor) -> Tensor:
            return cluster_distance(standard(x), fitted, cluster)

        far = _run(predict, data.prepare(spec)(blobs(FAR, spec=spec, seed=self.seed)))
        counts = (len(train), len(test))
        measures = _named("", rank_scores(inside, score(near.x)), counts, len(near))
        measures += _named("far_", rank_scores(inside, score(far)), counts, FAR)
        if self.shots:
            measures += self._few(predict, spec, data, fitted, standard, test, near)
        return measures

    def _few(
        self,
        predict: Any,
        spec: ImageSpec,
        data: DataSource,
        fitted: Float[Tensor, "N d"],
        standard: Standardizer,
        test: Features,
        near: Features,
    ) -> list[Measure]:
        """SSD_k: far from the training data and near to known outliers."""
        known = _some_of_each(near, self.shots, self.seed)
        raw = data.split("outliers").__getitems__(known.tolist())
        views = OneView(self.augment).fit(spec)
        support = []
        for copy in range(self.copies):
            batch = views(raw, SampleGenerator(self.seed, copy, raw["index"]))
            support.append(_run(predict, batch["views"][0]))
        inside = fit_gaussian(fitted, shrink=True)
        outside = fit_gaussian(standard(torch.cat(support)), shrink=True)

        def score(x: Tensor) -> Tensor:
            z = standard(x)
            return inside.distance(z) - outside.distance(z)

        rest = torch.ones(len(near), dtype=torch.bool)
        rest[known] = False
        found = rank_scores(score(test.x), score(near.x[rest]))
        return _named("few_", found, (len(fitted), len(test)), int(rest.sum()))


def _named(
    prefix: str, scores: dict[str, float], counts: tuple[int, int], outliers: int
) -> list[Measure]:
    return [
        Measure(
            metric=f"{prefix}{name}",
            value=value,
            train=counts[0],
            test=counts[1],
            higher_is_better=name != "fpr95",
            details={"outliers": outliers},
        )
        for name, value in scores.items()
    ]


def _clusters(z: Float[Tensor, "N d"], count: int, seed: int) -> Tensor:
    if count == 1:
        return torch.zeros(len(z), dtype=torch.int64)
    from sklearn.cluster import KMeans

    found = KMeans(count, n_init=1, random_state=seed).fit_predict(z.numpy())
    return torch.from_numpy(found).long()


def _some_of_each(features: Features, count: int, seed: int) -> Tensor:
    """Places of ``count`` samples of each class, in random order."""
    if features.label is None:
        raise ValueError("the outliers have no labels: use shots=0, which needs none")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(features), generator=generator)
    label = features.label[order]
    return torch.cat([order[label == each][:count] for each in label.unique()])


@torch.no_grad()
def _run(predict: Any, x: Tensor) -> Tensor:
    place = device_of(predict)
    return torch.cat([predict(part.to(place)).float().cpu() for part in x.split(256)])
