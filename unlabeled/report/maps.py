"""Where samples lie: the map of embeddings in two dimensions, and nearest neighbors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from unlabeled.ops.knn import nearest

TSNE_MOST = 2000
TSNE_LEAST = 10


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A sample of the page: its place in the split, label (a number) and path where known."""

    index: int
    label: int | None = None
    path: str | None = None


@dataclass(frozen=True, kw_only=True)
class Map:
    """Samples on a plane: ``points[i]`` in [0, 1]^2, by ``technique`` (t-SNE, PCA)."""

    technique: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Neighbor:
    """A sample (its number on the page), its cosine similarity, and whether the label is the same.

    ``same`` is None where labels are not known.
    """

    number: int
    similarity: float
    same: bool | None


@dataclass(frozen=True, kw_only=True)
class Neighbors:
    """Some samples with their nearest neighbors, and how often labels agree over all samples.

    ``agreement`` is the share of neighbors with the label of their query, over all queries;
    ``chance`` what it would be if neighbors were drawn at random. Both None without labels.
    """

    queries: tuple[int, ...]
    found: tuple[tuple[Neighbor, ...], ...]
    k: int
    agreement: float | None
    chance: float | None


def project(x: Tensor, *, seed: int) -> Map | None:
    """Lay [N, d] embeddings, first scaled to unit length, out on a plane; None for N < 3.

    10 to 2,000 samples by t-SNE (van der Maaten & Hinton 2008) after PCA to 50 dimensions, others
    by PCA. Either is scaled to fit the unit square with its aspect kept.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    count = len(x)
    if count < 3:
        return None
    unit = normalize(x.float(), dim=1).double().numpy()
    unit = unit - unit.mean(0)
    if abs(unit).max() < 1e-9 or x.shape[1] < 2:  # nothing to lay out
        return None
    width = min(50, count - 1, x.shape[1])
    flat = PCA(max(2, width), random_state=seed).fit_transform(unit)
    technique = "PCA"
    if TSNE_LEAST <= count <= TSNE_MOST:
        flat = flat / flat[:, 0].std()
        tsne = TSNE(
            init="pca", perplexity=min(30.0, (count - 1) / 3), max_iter=500, random_state=seed
        )
        # its threads wait for each other in a loop: on a busy machine two are slower than one
        with threadpool_limits(1):
            flat, technique = tsne.fit_transform(flat), "t-SNE"
    plane = torch.from_numpy(flat[:, :2].copy()).double()
    low, high = plane.amin(0), plane.amax(0)
    plane = (plane - (low + high) / 2) / (high - low).max() + 0.5
    rows = [(round(a, 4), round(b, 4)) for a, b in plane.tolist()]
    return Map(technique=technique, points=tuple(rows))


def find_neighbors(
    x: Tensor, label: Tensor | None, *, queries: int = 8, k: int = 8, seed: int = 0
) -> Neighbors | None:
    """Find the k nearest others of some samples by cosine similarity; None for fewer than two.

    The queries are spread over the classes where labels are known.
    """
    k = min(k, len(x) - 1)
    if k < 1:
        return None
    similarity, place = nearest(x, x, k=k + 1)
    own = place == torch.arange(len(x))[:, None]
    # among many copies of a sample it may not be its own nearest: then the last one goes
    own[:, -1] |= ~own.any(1)
    place, similarity = place[~own].view(len(x), k), similarity[~own].view(len(x), k)
    chosen = choose(label, len(x), queries=queries, seed=seed)
    same = None if label is None else label[place] == label[:, None]
    found = tuple(
        tuple(
            Neighbor(
                number=int(place[query, rank]),
                similarity=round(float(similarity[query, rank]), 4),
                same=None if same is None else bool(same[query, rank]),
            )
            for rank in range(k)
        )
        for query in chosen
    )
    agreement = chance = None
    if label is not None and same is not None:
        agreement = float(same.float().mean())
        count = label.unique(return_counts=True)[1].double()
        chance = float((count * (count - 1)).sum() / (len(x) * (len(x) - 1)))
    return Neighbors(queries=tuple(chosen), found=found, k=k, agreement=agreement, chance=chance)


def choose(label: Tensor | None, count: int, *, queries: int, seed: int) -> list[int]:
    """Choose samples at random, class by class in turn where there are labels, sorted by class."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    if label is None:
        return sorted(order[:queries])
    seen: dict[int, int] = {}
    rounds = []
    for place in order:
        kind = int(label[place])
        seen[kind] = seen.get(kind, 0) + 1
        rounds.append((seen[kind], place))
    rounds.sort(key=lambda item: item[0])  # stable: random within a round
    chosen = [place for _, place in rounds[:queries]]
    return sorted(chosen, key=lambda place: (int(label[place]), place))
