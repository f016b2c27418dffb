"""Self-Supervised Learning for Large-Scale Unsupervised Image Clustering (2008.10312).

Frozen features of several methods, clustered by k-means and nothing else: which are the classes?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import mean

from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.shifted import Shifted
from unlabeled.encoders.image import small_resnet
from unlabeled.evaluators.kmeans_clusters import KMeansClusters
from unlabeled.methods.image import barlow_twins, byol, moco_v2, simclr, simclr_v2, simsiam, swav
from unlabeled.ops.ranks import rank_correlation
from unlabeled.recipe import Recipe, Study
from unlabeled.studies.crl_review import LabelContrast

Scores = Mapping[str, Mapping[str, Sequence[float]]]
LEARNED = ("simclr", "moco_v2", "byol", "simsiam", "barlow_twins", "swav")


def report(scores: Scores) -> list[str]:
    """Hold the protocol's claims against the figures."""
    found = {
        score: {name: mean(values) for name, values in branches.items()}
        for score, branches in scores.items()
    }
    own = found["kmeans VA-L"]
    random, raw = own["random"], own["raw"]
    learned = [name for name in own if name in LEARNED]
    lines = [
        f"{sum(own[name] > floor + 2 for name in learned)} of {len(learned)} methods cluster 2 "
        f"points or more better than {what} ({floor:.1f})"
        for what, floor in (("random weights", random), ("raw input", raw))
    ]
    best = max(learned, key=lambda name: own[name])
    gain = own["labels"] - own[best]
    said = "shown" if gain > 2 else "not shown"
    lines.append(
        f"{said}: features trained with labels cluster better than the best without "
        f"({own['labels']:.1f} against {best} {own[best]:.1f})"
    )
    names = [name for name in own if name != "raw"]
    rho = rank_correlation(
        [own[name] for name in names], [found["linear"][name] for name in names]
    ).rho
    said = "shown" if rho > 0.7 else "not shown"
    lines.append(
        f"{said}: clustering orders {len(names)} encoders as the linear probe does (Spearman "
        f"{rho:+.2f}, 0.7 or more asked)"
    )
    honest = mean(own[name] - found["kmeans"][name] for name in learned)
    lines.append(
        f"a map found on the samples judged gives {honest:+.1f} points over one found on train"
    )
    more = mean(found["kmeans TR-M x4"][name] - found["kmeans TR-M"][name] for name in learned)
    said = "shown" if more > 1 else "not shown"
    lines.append(f"{said}: four clusters a class raise many-to-one accuracy ({more:+.1f} points)")
    moved = mean(found["kmeans TR-L foreign"][name] - found["kmeans"][name] for name in learned)
    said = "shown" if moved < -2 else "not shown"
    lines.append(f"{said}: clusters do not carry over to other data ({moved:+.1f} points)")
    return lines


def _study(recipes: Mapping[str, Recipe], judge: KMeansClusters) -> Study:
    return Study(recipes=recipes, evaluators=(judge, "knn", "linear"), report=report)


def paper() -> Study:
    """The methods of the paper that are built here, on ImageNet, 60 passes of k-means."""
    recipes = {
        "simclr": simclr.paper(),
        "simclr_v2": simclr_v2.paper(),
        "moco_v2": moco_v2.paper(),
        "swav": swav.paper(),
    }
    return _study(recipes, KMeansClusters(over=(1.0, 1.25, 1.5, 2.0), passes=60))


def small() -> Study:
    """Six methods and labels on Fashion-MNIST, a narrow encoder, one epoch each.

    The other data are the same clothes, tilted and smaller.
    """
    narrow = partial(small_resnet, widths=(8, 16, 64))
    modules = (simclr, moco_v2, byol, simsiam, barlow_twins, swav)
    recipes = {
        name: replace(module.small(), encoder=narrow, epochs=1)
        for name, module in zip(LEARNED, modules, strict=True)
    }
    recipes["labels"] = replace(recipes["simclr"], method=partial(LabelContrast))
    return _study(recipes, KMeansClusters(over=(1.0, 4.0), foreign=Shifted(FashionMnist())))
