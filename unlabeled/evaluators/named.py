"""Protocols by name, as the command line and recipes ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

SIZED = ("knn", "linear", "fewlabel")
"""What is set up for the data at hand, by `unlabeled.evaluation` itself."""
NAMED = {
    "linear_sgd": "linear_sgd:LinearSgd",
    "linear_bn": "linear_sgd:LinearSgd",
    "linear_grid": "linear_sgd:LinearGrid",
    "fewlabel_10": "fewlabel:FewLabels",
    "finetune": "finetune:FineTune",
    "finetune_1": "finetune:FineTune",
    "finetune_10": "finetune:FineTune",
    "episodes": "episodes:Episodes",
    "retrieval": "retrieval:Retrieval",
    "alignment": "alignment:Alignment",
    "contrast_loss": "contrast_loss:ContrastLoss",
    "rotation": "pretext_probe:PretextProbe",
    "jigsaw_probe": "pretext_probe:PretextProbe",
    "color_probe": "pretext_probe:PretextProbe",
    "duplicates": "duplicates:Duplicates",
    "clustering": "clustering:Clustering",
    "kmeans": "kmeans_clusters:KMeansClusters",
    "svm": "svm:SvmFolds",
    "layers": "layers:Layers",
    "calibration": "calibration:Calibration",
    "ood": "ood:OutOfDistribution",
    "corruptions": "corruptions:Corruptions",
    "segmentation": "segmentation:LinearSegmentation",
    "detection": "detection:Detection",
    "instances": "detection:Detection",
    "fcn": "fcn:FcnSegmentation",
    "knn_segmentation": "knn_segmentation:KnnSegmentation",
    "correspondence": "correspondence:Correspondence",
    "flow": "flow:FlowError",
    "propagation": "propagation:Propagation",
}
"""Module and class of evaluators that need no settings, but for those of `SETTINGS`."""
SETTINGS: dict[str, dict[str, Any]] = {
    "linear_bn": {"batchnorm": True, "lars": True, "rates": (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)},
    "fewlabel_10": {"share": 0.1},
    "instances": {"masks": True},
    "jigsaw_probe": {"task": "jigsaw"},
    "color_probe": {"task": "color"},
    "finetune_1": {"share": 0.01},
    "finetune_10": {"share": 0.1},
}
"""What a name sets of its evaluator."""


def resolved(protocols: Sequence[Any]) -> list[Any]:
    """Return the protocols with names replaced by evaluators, but for those of `SIZED`.

    Raises:
        ValueError: an unknown name; lists those there are.
    """
    found: list[Any] = []
    for protocol in protocols:
        if not isinstance(protocol, str) or protocol in SIZED:
            found.append(protocol)
        elif protocol in NAMED:
            module, _, name = NAMED[protocol].partition(":")
            kind = getattr(import_module(f"unlabeled.evaluators.{module}"), name)
            found.append(kind(**SETTINGS.get(protocol, {})))
        else:
            near = get_close_matches(protocol, (*SIZED, *NAMED), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"no protocol {protocol!r}: use {', '.join((*SIZED, *NAMED))}{hint}")
    return found


def sized(protocols: Sequence[Any], *, train: int, seed: int) -> list[Any]:
    """Return the protocols with the names of `SIZED` replaced by evaluators set up for the data.

    Args:
        protocols: names and evaluators.
        train: training samples: kNN's k is 20, or all of them where there are fewer.
        seed: of the draws and splits.

    Raises:
        ValueError: a name that is not among `SIZED`.
    """
    from unlabeled.evaluators.fewlabel import FewLabels
    from unlabeled.evaluators.knn import Knn
    from unlabeled.evaluators.linear import Linear

    known: dict[str, Any] = {
        "knn": Knn(k=min(20, train)),
        "linear": Linear(seed=seed),
        "fewlabel": FewLabels(seed=seed),
    }
    unknown = [each for each in protocols if isinstance(each, str) and each not in known]
    if unknown:
        raise ValueError(f"no protocol {unknown[0]!r}: use {', '.join(known)}")
    return [known[each] if isinstance(each, str) else each for each in protocols]
