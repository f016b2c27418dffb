"""Protocols by name, as the command line and recipes ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

SIZED = ("knn", "linear", "fewlabel")
"""What is set up for the data at hand, by `unlabeled.evaluation` itself."""
NAMED = {
    "retrieval": "retrieval:Retrieval",
    "clustering": "clustering:Clustering",
    "svm": "svm:SvmFolds",
    "layers": "layers:Layers",
    "calibration": "calibration:Calibration",
    "ood": "ood:OutOfDistribution",
    "corruptions": "corruptions:Corruptions",
    "segmentation": "segmentation:LinearSegmentation",
    "detection": "detection:Detection",
    "correspondence": "correspondence:Correspondence",
    "flow": "flow:FlowError",
    "propagation": "propagation:Propagation",
}
"""Module and class of evaluators that need no settings."""


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
            found.append(getattr(import_module(f"unlabeled.evaluators.{module}"), name)())
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
