"""OpenSet: a target domain without labels, some of whose classes a labeled source has."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from unlabeled.data.images import ImageSource, cache_folder, no_split
from unlabeled.data.order import permutation
from unlabeled.data.source import ImageSpec, Samples
from unlabeled.method import Batch


@dataclass(frozen=True)
class OpenSet(ImageSource):
    """The target's images, each with an image of a known class of the source beside it.

    Raw batches of "train" and "test" are the target's. ``label`` is 0 .. K - 1 for the known
    classes in the order of ``known``, and K for all others; ``source_images`` and ``source_label``
    are the partners'. Each source image is a partner once before any is one again.

    Args:
        target: the domain without labels; its labels are for evaluators.
        source: the domain with labels.
        known: the classes that both have, as they number them.

    Raises:
        ValueError: fewer than two known classes.
    """

    target: ImageSource
    source: ImageSource
    _: KW_ONLY
    known: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.known) < 2:
            raise ValueError(f"known is {self.known}: name two classes or more")

    @property
    def name(self) -> str:
        """The names of both."""
        return f"{self.source.name}-to-{self.target.name}"

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The known classes' names, and ``unknown``."""
        names = self.target.classes
        return None if names is None else (*(names[each] for each in self.known), "unknown")

    def size(self, split: str) -> int:
        """Return the target's."""
        return self.target.size(split)

    def spec(self) -> ImageSpec:
        """Return the source's."""
        return self.source.spec()

    def at(self, side: int) -> OpenSet:
        """Return the same of both for ``side`` pixels."""
        return replace(self, target=self.target.at(side), source=self.source.at(side))

    def split(self, name: str) -> Samples:
        """Return "train" or "test"."""
        if name not in ("train", "test"):
            raise no_split(self.name, name, ("train", "test"))
        return _pairs(self, name)

    @property
    def labeled(self) -> int:
        """How many source images are of a known class."""
        return len(_known_places(self))


class Pairs:
    """Target images with source partners."""

    def __init__(self, target: Samples, source: Samples, partner: Tensor, known: tuple[int, ...]):
        self.target, self.source, self.partner = target, source, partner
        self.known = torch.tensor(known)

    def __len__(self) -> int:
        return len(self.target)

    def __getitems__(self, places: list[int]) -> Batch:
        """Read target images and their partners."""
        batch = self.target.__getitems__(places)
        beside = self.source.__getitems__(self.partner[batch["index"]].tolist())
        if "label" in batch:
            batch["label"] = self._numbered(batch["label"])
        batch["source_images"] = beside["views"][0]
        batch["source_label"] = self._numbered(beside["label"])
        return batch

    def _numbered(self, label: Tensor) -> Tensor:
        same = label[:, None] == self.known
        return torch.where(same.any(1), same.int().argmax(1), len(self.known))


@lru_cache(maxsize=4)
def _known_places(data: OpenSet) -> Tensor:
    samples = data.source.split("train")
    label = samples.__getitems__(list(range(len(samples)))).get("label")
    if label is None:
        raise ValueError(f"{data.source.name} has no labels: a source needs them")
    return torch.isin(label, torch.tensor(data.known)).nonzero().flatten()


@lru_cache(maxsize=4)
def _pairs(data: OpenSet, name: str) -> Pairs:
    target, places = data.target.split(name), _known_places(data)
    rounds = -(-len(target) // len(places))
    order = [places[permutation(len(places), seed=0, epoch=epoch)] for epoch in range(rounds)]
    return Pairs(target, data.source.split("train"), torch.cat(order)[: len(target)], data.known)


@dataclass(frozen=True)
class OfficeHome(ImageSource):
    """One domain of Office-Home: 65 classes of things at home and in the office, at 224 px.

    Facts need no files; images are a folder a class below ``root``.

    Args:
        domain: Art, Clipart, Product or RealWorld.
        root: the folder of the domains; ``office-home`` of our cache folder by default.

    Raises:
        FileNotFoundError: at the first ``split``.
    """

    domain: str
    root: str | None = None

    @property
    def name(self) -> str:
        """``office-home-Art``."""
        return f"office-home-{self.domain}"

    def size(self, split: str) -> int:
        """All images are of both splits, as the protocol has it."""
        counts = {"Art": 2427, "Clipart": 4365, "Product": 4439, "RealWorld": 4357}
        return counts[self.domain]

    def spec(self) -> ImageSpec:
        """Return 224 px and ImageNet's statistics."""
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        return ImageSpec(channels=3, size=224, mean=mean, std=std)

    def split(self, name: str) -> Samples:
        """Read the folder."""
        from unlabeled.data.folder import ImageFolder

        root = Path(self.root) if self.root is not None else cache_folder("office-home")
        if not (root / self.domain).is_dir():
            raise FileNotFoundError(
                f"{root / self.domain} does not exist: unpack Office-Home there, or use small()"
            )
        return ImageFolder(str(root / self.domain)).split("train")
