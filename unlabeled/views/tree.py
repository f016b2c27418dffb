"""Views of a latent tree: what lies below one root, drawn twice."""

from __future__ import annotations

from dataclasses import dataclass, replace

from unlabeled.data.latent_tree import TreeSpec, grown, leaves, root_of
from unlabeled.method import Batch
from unlabeled.views.generator import SampleGenerator


@dataclass(frozen=True)
class TreePairs:
    """Leaves of trees that share their root and nothing else (2010.00578, section 5).

    Trees are drawn anew in every epoch and do not come from the data, of which the polarities are
    used.

    Args:
        views: trees of each root.
        spec: the data's; set by `fit`.
    """

    views: int = 2
    spec: TreeSpec | None = None

    def fit(self, spec: TreeSpec) -> TreePairs:
        """Return a copy with the spec."""
        return replace(self, spec=spec)

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """Return a new batch with the views [B, 2^depth]."""
        if self.spec is None:
            raise ValueError("views have no spec: call fit(data.spec()) first")
        root = root_of(generator)
        return {
            "views": [
                leaves(grown(root, generator, self.spec), self.spec) for _ in range(self.views)
            ],
            "index": batch["index"],
        }
