"""LabeledPart: the few images of a source that someone has labeled, as its training split."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import lru_cache

import torch
from torch import Tensor

from unlabeled.data.files import FileSamples
from unlabeled.data.images import ArraySamples, WrappedSource
from unlabeled.data.source import Samples
from unlabeled.method import Batch


@dataclass(frozen=True)
class LabeledPart(WrappedSource):
    """A source whose "train" is a fixed share of each class; "test" stays whole.

    Each class gives ``round(share * count)`` images, at least one, drawn by ``seed``: the same in
    every run.

    Args:
        source: images with labels.
        share: of each class, in (0, 1].
        seed: of the draw.

    Raises:
        ValueError: a share outside (0, 1], or at the first ``split`` a source without labels.
    """

    _: KW_ONLY
    share: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}: give a share of the labels in (0, 1]")

    @property
    def name(self) -> str:
        """The source's name and the share, such as ``fashion-mnist-0.01``."""
        return f"{self.source.name}-{self.share:g}"

    def size(self, split: str) -> int:
        """Return the number of images that are left."""
        return len(self.split(split))

    def split(self, name: str) -> Samples:
        """Return the part of "train", or another split as it is."""
        return _part(self) if name == "train" else self.source.split(name)


class PartSamples:
    """Some samples of a split, numbered anew."""

    def __init__(self, samples: Samples, places: Tensor) -> None:
        self.samples, self.places = samples, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitems__(self, places: list[int]) -> Batch:
        """Read the samples at ``places`` of the part."""
        index = torch.as_tensor(places, dtype=torch.int64)
        batch = self.samples.__getitems__(self.places[index].tolist())
        return {**batch, "index": index}


def balanced(label: Tensor, *, share: float, seed: int) -> Tensor:
    """Ascending places of ``round(share * count)`` samples of each class, at least one."""
    order = torch.randperm(len(label), generator=torch.Generator().manual_seed(seed))
    parts = []
    for value in label.unique():
        members = order[label[order] == value]
        parts.append(members[: max(1, round(share * len(members)))])
    return torch.cat(parts).sort().values


@lru_cache(maxsize=2)
def _part(part: LabeledPart) -> PartSamples:
    samples = part.source.split("train")
    label = samples.label if isinstance(samples, ArraySamples | FileSamples) else None
    if label is None:
        raise ValueError(
            f"{part.source.name} has no labels that can be read at once: give class folders or "
            "arrays with labels"
        )
    return PartSamples(samples, balanced(label, share=part.share, seed=part.seed))
