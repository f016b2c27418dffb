"""KMeansClusters: how good frozen features are when they are only clustered (2008.10312)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from unlabeled.data.source import DataSource
from unlabeled.encoders.encoder import Encoder
from unlabeled.evaluators.clustering import contingency
from unlabeled.evaluators.evaluator import Figure, Measure, check_labels
from unlabeled.features import Features, embed

if TYPE_CHECKING:
    from jaxtyping import Int

FEWEST = 10
SHOWN = 3
MAPS = ("TR-L", "TR-M", "VA-L", "VA-M")


def majority_map(table: Int[Tensor, "K C"]) -> Int[Tensor, " K"]:
    """Return the most frequent class of each cluster (many-to-one)."""
    return table.argmax(1)


def assigned_map(table: Int[Tensor, "K C"]) -> Int[Tensor, " K"]:
    """Return the one-to-one map with the most hits (Kuhn 1955).

    Clusters beyond the classes take their most frequent class; classes beyond the clusters have
    none, and count as errors.
    """
    from scipy.optimize import linear_sum_assignment

    found = majority_map(table)
    row, column = linear_sum_assignment(table.numpy(), maximize=True)
    found[torch.from_numpy(row)] = torch.from_numpy(column)
    return found


class Clusters(NamedTuple):
    """Clusters of train: the rotation that comes first, the centers, what train was given."""

    mean: Tensor
    rotation: Tensor
    model: Any
    train: Tensor

    def assign(self, x: Tensor) -> Tensor:
        """[N] int64: the nearest center of each row."""
        turned = ((x - self.mean) @ self.rotation).numpy()
        return torch.from_numpy(self.model.predict(turned)).long()


@dataclass(frozen=True, kw_only=True)
class KMeansClusters:
    """Mini-batch k-means on frozen features, and what its clusters say of the classes.

    1. Features as they are (``unit``: of unit length), centered and turned onto the principal
       components of train, all of them or the first ``components``.
    2. Mini-batch k-means with ``round(over * classes)`` clusters, k-means++, ``passes`` over the
       shuffled training features, no early stop. Labels are not used up to here.
    3. Clusters are given classes one-to-one (L) or many-to-one (M), on train (TR) or on the very
       samples that are judged (VA, which flatters and is what most papers report).
    4. On test: accuracy under the four maps; ARI, AMI, V-measure and Fowlkes-Mallows. With more
       clusters, and on ``foreign`` data of the same classes, the accuracies.

    The trials are seeds of k-means. From "Self-Supervised Learning for Large-Scale Unsupervised
    Image Clustering" (sections 3 and 4).

    Args:
        over: clusters for each class; a figure each.
        components: of PCA, None for all.
        unit: bring features to unit length first.
        passes: over train.
        batch_size: of k-means, at least.
        seeds: of k-means.
        foreign: other data with the same classes, judged by its "test".
        seed: the first of the seeds.
        every: epochs between two calls during training, None for never.

    Raises:
        ValueError: counts below 1; at judging, labels that cannot be scored.
    """

    name: ClassVar[str] = "kmeans"
    needs: ClassVar[str] = "encoder"
    over: tuple[float, ...] = (1.0,)
    components: int | None = None
    unit: bool = False
    passes: int = 10
    batch_size: int = 2048
    seeds: int = 3
    foreign: DataSource | None = None
    seed: int = 0
    every: int | None = None

    def __post_init__(self) -> None:
        if not self.over or min(self.over) <= 0 or min(self.passes, self.seeds) < 1:
            raise ValueError(
                f"over {self.over}, passes {self.passes}, seeds {self.seeds}: give positive values"
            )

    @property
    def protocol(self) -> str:
        """``kmeans/minibatch-v1``, with the components and unit length where they are set."""
        pca = "" if self.components is None else f"-pca{self.components}"
        return f"kmeans/minibatch{pca}{'-unit' if self.unit else ''}-v1"

    def judge(self, predict: Encoder, data: DataSource) -> list[Measure]:
        """Embed all there is and cluster it."""
        return self._judge(predict, data, predict.spec)

    def plain(self, data: DataSource) -> list[Measure]:
        """The same on the raw input."""
        return self._judge(data.raw, data, data.spec())

    def figures(self, predict: Encoder, data: DataSource) -> list[Figure]:
        """The purest and the tightest clusters of train, ten members each."""
        train = self._ready(embed(predict, data, split="train", spec=predict.spec))
        label, _, classes = check_labels(train, train)
        found = self.clusters(train.x, clusters=classes, seed=self.seed)
        pure, tight = shown_clusters(train.x, found.train, label)
        rows = [_sheet(data, places) for places in (*pure, *tight)]
        if not rows:
            return []
        title = f"Members of the {len(pure)} purest and the {len(tight)} tightest clusters"
        return [Figure(title, torch.cat(rows, 1)[None])]

    def clusters(self, x: Tensor, *, clusters: int, seed: int) -> Clusters:
        """Cluster features [N, d]; labels have no part in it."""
        from sklearn.cluster import MiniBatchKMeans
        from threadpoolctl import threadpool_limits

        mean = x.mean(0)
        _, vectors = torch.linalg.eigh(torch.cov((x - mean).T.double()).view(x.shape[1], -1))
        rotation = vectors.flip(1)[:, : self.components].float()
        turned = ((x - mean) @ rotation).numpy()
        size = min(len(x), max(self.batch_size, 2 ** int(np.ceil(np.log2(max(2, clusters))))))
        model = MiniBatchKMeans(min(clusters, len(x)), batch_size=size, n_init=3, random_state=seed)
        order = np.random.default_rng(seed)
        with threadpool_limits(limits=torch.get_num_threads()):
            for _ in range(self.passes):
                for rows in np.array_split(order.permutation(len(x)), -(-len(x) // size)):
                    if len(rows) >= model.n_clusters:
                        model.partial_fit(turned[rows])
            train = torch.from_numpy(model.predict(turned)).long()
        return Clusters(mean, rotation, model, train)

    def score(
        self, train: Features, test: Features, foreign: Features | None = None
    ) -> list[Measure]:
        """Cluster train, judge test and, where it is given, foreign data."""
        train, test = self._ready(train), self._ready(test)
        label, truth, classes = check_labels(train, test)
        sets = {"": (test.x, truth)}
        if foreign is not None:
            other = self._ready(foreign)
            assert train.label is not None
            known = train.label.unique()
            assert other.label is not None
            kept = torch.isin(other.label, known)
            if not bool(kept.any()):
                raise ValueError("the foreign data has none of the classes of train")
            sets[" foreign"] = (other.x[kept], torch.searchsorted(known, other.label[kept]))
        measures = []
        for over in self.over:
            count = max(1, round(over * classes))
            values: dict[str, list[float]] = {}
            for number in range(self.seeds):
                found = self.clusters(train.x, clusters=count, seed=self.seed + number)
                for where, (x, wanted) in sets.items():
                    judged = scores(
                        found.assign(x), wanted, found.train, label, clusters=count, classes=classes
                    )
                    for metric, value in judged.items():
                        if metric not in MAPS and (where or over != 1):
                            continue  # the agreements are given once
                        values.setdefault(f"{metric}{where}", []).append(value)
            suffix = "" if over == 1 else f" x{over:g}"
            measures += [
                Measure(
                    metric=f"{metric}{suffix}",
                    value=sum(trials) / len(trials),
                    trials=tuple(trials),
                    train=len(train),
                    test=len(sets[" foreign" if metric.endswith("foreign") else ""][0]),
                    details={"clusters": count, "passes": self.passes},
                )
                for metric, trials in values.items()
            ]
        return measures

    def __call__(self, predict: Encoder, data: DataSource) -> dict[str, float]:
        """Judge, as named values."""
        return {f"{self.name}/{each.metric}": each.value for each in self.judge(predict, data)}

    def _judge(self, look: Any, data: DataSource, spec: Any) -> list[Measure]:
        train, test = (embed(look, data, split=each, spec=spec) for each in ("train", "test"))
        foreign = None
        if self.foreign is not None:
            foreign = embed(look, self.foreign, split="test", spec=spec)
        return self.score(train, test, foreign)

    def _ready(self, features: Features) -> Features:
        x = normalize(features.x, dim=1) if self.unit else features.x
        return Features(x, features.label)


def scores(
    cluster: Tensor,
    truth: Tensor,
    train_cluster: Tensor,
    label: Tensor,
    *,
    clusters: int,
    classes: int,
) -> dict[str, float]:
    """Return all figures of an assignment in percent: see `KMeansClusters`."""
    from sklearn.metrics import (
        adjusted_mutual_info_score,
        adjusted_rand_score,
        fowlkes_mallows_score,
        v_measure_score,
    )

    trained = contingency(train_cluster, label, clusters=clusters, classes=classes)
    judged = contingency(cluster, truth, clusters=clusters, classes=classes)
    maps = {
        "TR-L": assigned_map(trained),
        "TR-M": majority_map(trained),
        "VA-L": assigned_map(judged),
        "VA-M": majority_map(judged),
    }
    values = {name: float((of[cluster] == truth).double().mean()) for name, of in maps.items()}
    pair = truth.numpy(), cluster.numpy()
    values |= {
        "ARI": adjusted_rand_score(*pair),
        "AMI": adjusted_mutual_info_score(*pair),
        "V": v_measure_score(*pair),
        "FM": fowlkes_mallows_score(*pair),
    }
    return {name: 100 * float(value) for name, value in values.items()}


def shown_clusters(x: Tensor, cluster: Tensor, label: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Members of the three purest clusters (of ten samples or more) and of the three tightest."""
    clusters, classes = int(cluster.max()) + 1, int(label.max()) + 1
    table = contingency(cluster, label, clusters=clusters, classes=classes)
    count = table.sum(1)
    purity = torch.where(count >= FEWEST, table.amax(1) / count.clamp_min(1), -1.0)
    mean = torch.zeros(clusters, x.shape[1]).index_add_(0, cluster, x) / count[:, None].clamp_min(1)
    far = (x - mean[cluster]).square().sum(1)
    spread = torch.zeros(clusters).index_add_(0, cluster, far) / count.clamp_min(1)
    spread = torch.where(count >= FEWEST, spread, torch.inf)
    pure = [each for each in purity.argsort(descending=True)[:SHOWN] if purity[each] >= 0]
    tight = [each for each in spread.argsort()[:SHOWN] if spread[each] < torch.inf]
    return (
        [(cluster == each).nonzero().flatten() for each in pure],
        [(cluster == each).nonzero().flatten() for each in tight],
    )


def _sheet(data: DataSource, places: Tensor) -> Tensor:
    """[C, H, 10 W]: ten members side by side."""
    rows = places[torch.linspace(0, len(places) - 1, FEWEST).long()]
    (images,) = data.split("train").__getitems__(rows.tolist())["views"]
    side = min(min(image.shape[-2:]) for image in images)
    cut = [image[:, :side, :side].float() for image in images]
    return torch.cat([each / 255 if each.max() > 1 else each for each in cut], 2)
