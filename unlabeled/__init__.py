"""unlabeled: self-supervised learning, from data without labels to an encoder that people can use.

The verbs load their modules when first used; importing the package imports no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["embed", "evaluate", "export", "load", "papers", "pretrain"]

_VERBS = {
    "pretrain": "unlabeled.pretraining",
    "evaluate": "unlabeled.evaluation",
    "embed": "unlabeled.features",
    "export": "unlabeled.artifacts",
    "load": "unlabeled.artifacts",
    "papers": "unlabeled.catalog",
}


def __getattr__(name: str) -> Any:
    if name not in _VERBS:
        raise AttributeError(f"module 'unlabeled' has no attribute {name!r}")
    module = importlib.import_module(_VERBS[name])
    return getattr(module, "cards" if name == "papers" else name)


def __dir__() -> list[str]:
    return sorted(__all__)
