"""ClassPart: some classes of a source, with the others as outliers that training never sees."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import lru_cache

import torch

from unlabeled.data.images import ArraySamples, ImageSource, WrappedSource, no_split
from unlabeled.data.source import Samples


@dataclass(frozen=True)
class ClassPart(WrappedSource):
    """A source whose "train" and "test" hold some classes; "outliers" are the others of "test".

    Args:
        source: images in memory with labels, such as `FashionMnist`.
        keep: the classes that are in distribution, as the source numbers them.

    Raises:
        ValueError: no class, or at the first ``split`` a class that the source lacks.
    """

    _: KW_ONLY
    keep: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.keep:
            raise ValueError("keep is empty: name the classes that are in distribution")

    @property
    def name(self) -> str:
        """The source's name and the classes, such as ``fashion-mnist-classes-0-1``."""
        return f"{self.source.name}-classes-{'-'.join(map(str, self.keep))}"

    def size(self, split: str) -> int:
        """Return the number of images that are left."""
        return len(self.split(split))

    def split(self, name: str) -> Samples:
        """Return "train", "test" or "outliers"."""
        if name not in ("train", "test", "outliers"):
            raise no_split(self.name, name, ("train", "test", "outliers"))
        return _part(self.source, self.keep, name)


@lru_cache(maxsize=6)
def _part(source: ImageSource, keep: tuple[int, ...], name: str) -> ArraySamples:
    samples = source.split("test" if name == "outliers" else name)
    if not isinstance(samples, ArraySamples) or samples.label is None:
        raise ValueError(f"{source.name} does not lie in memory with labels: give such a source")
    missing = set(keep) - set(samples.label.unique().tolist())
    if missing:
        raise ValueError(f"{source.name} has no class {min(missing)} in {name!r}: keep others")
    inside = torch.isin(samples.label, torch.tensor(keep))
    places = (~inside if name == "outliers" else inside).nonzero().flatten()
    return ArraySamples(samples.images[places], label=samples.label[places])
