"""Data in cases: several images of one patient, object or place are one sample."""

from __future__ import annotations

import os
from dataclasses import KW_ONLY, dataclass, replace
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.files import FileSamples
from unlabeled.data.folder import ImageFolder
from unlabeled.data.images import (
    ArraySamples,
    ImageSource,
    WrappedSource,
    cache_folder,
    no_split,
    stacked,
)
from unlabeled.data.source import ImageSpec, Samples
from unlabeled.method import Batch
from unlabeled.views.generator import SampleGenerator

SEED = -2  # of photographs; runs have seeds from 0
SPLITS = ("train", "test")


@dataclass(frozen=True)
class CaseFolder(ImageSource):
    """Photos in folders train/CASE/ and test/CASE/, or train/CLASS/CASE/ where cases have labels.

    A sample is a case: ``views`` holds its first photo, by name, for evaluation, ``instances`` all
    of them. A case lies in one split whole, so none is judged that was trained on. ``spec`` needs
    no files, so that a paper's own recipe builds without them.

    Args:
        root: the folder; by default cases in our cache folder.
        image_size: side in pixels that encoders take by default.

    Raises:
        FileNotFoundError: at the first ``split``, if ``root`` has no train/ and test/.
    """

    root: str | None = None
    _: KW_ONLY
    image_size: int = 224

    @property
    def name(self) -> str:
        """The folder's name."""
        return self._root().name

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The class folders, sorted; None where cases lie right below the splits."""
        return _open(self, "train").classes

    def spec(self) -> ImageSpec:
        """Return three channels and ImageNet's statistics."""
        return ImageSpec(
            channels=3,
            size=self.image_size,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        )

    def at(self, side: int) -> CaseFolder:
        """Return the same for an encoder that takes ``side`` pixels."""
        return replace(self, image_size=side)

    def split(self, name: str) -> CaseSamples:
        """Return "train" or "test"."""
        if name not in SPLITS:
            raise no_split(self.name, name, SPLITS)
        return _open(self, name)

    def _root(self) -> Path:
        return cache_folder("cases") if self.root is None else Path(self.root).expanduser()

    def folder(self) -> ImageFolder:
        """Return all photos, one by one."""
        root = self._root()
        if not all((root / split).is_dir() for split in SPLITS):
            raise FileNotFoundError(
                f"no cases in {root}: give as data.root a folder with train/CASE/ and test/CASE/ "
                "(or train/CLASS/CASE/), a folder of photos for each case"
            )
        return ImageFolder(str(root), channels=3, image_size=self.image_size)


class CaseSamples:
    """A split whose samples are the folders of files."""

    def __init__(self, files: FileSamples, classes: tuple[str, ...] | None) -> None:
        self.files = files
        self.members: dict[str, list[int]] = {}
        for number, place in enumerate(files.places.tolist()):
            case = os.path.dirname(files.store.paths[place])
            self.members.setdefault(case, []).append(number)
        self.cases = sorted(self.members)
        deep = all(case.count("/") >= 2 for case in self.cases)  # SPLIT/CLASS/CASE
        self.classes = classes if deep else None

    def __len__(self) -> int:
        return len(self.cases)

    def __getitems__(self, places: list[int]) -> Batch:
        """Read all photos of some cases."""
        members = [self.members[self.cases[place]] for place in places]
        ends = [0, *accumulate(len(each) for each in members)]
        read = self.files.__getitems__([number for each in members for number in each])
        images = list(read["views"][0])
        instances = [images[start:end] for start, end in pairwise(ends)]
        batch = Batch(
            views=[stacked([each[0] for each in instances])],
            index=torch.as_tensor(places, dtype=torch.int64),
            instances=instances,
        )
        if self.classes is not None and "label" in read:
            batch["label"] = read["label"][ends[:-1]]
        return batch


@lru_cache(maxsize=4)
def _open(source: CaseFolder, split: str) -> CaseSamples:
    folder = source.folder()
    return CaseSamples(folder.split(split), folder.classes)


# A stand-in --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Photographed(WrappedSource):
    """Cases made of a source: each of its images is an object that was photographed a few times.

    A case has 1 to ``most`` photographs, equally likely. Each is turned by up to 20 degrees, moved
    by up to a tenth of the side and scaled by 0.85 to 1.15, exposed by a factor of 0.6 to 1.4, and
    has noise of deviation 0.05. They follow from the image's place, so they are the same in every
    epoch and run: facts of the data, not views.

    Args:
        source: images in memory, such as `FashionMnist`.
        most: photographs of a case.

    Raises:
        ValueError: ``most`` below 1, or at the first ``split`` images that are not in memory.
    """

    _: KW_ONLY
    most: int = 4

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"most is {self.most}: give at least one photograph a case")

    @property
    def name(self) -> str:
        """The source's name and ``-photographed``."""
        return f"{self.source.name}-photographed"

    def split(self, name: str) -> Samples:
        """Return "train" or "test"."""
        if name not in SPLITS:
            raise no_split(self.name, name, SPLITS)
        samples = self.source.split(name)
        if not isinstance(samples, ArraySamples):
            raise ValueError(
                f"{self.source.name} does not lie in memory: give arrays, such as FashionMnist"
            )
        return PhotographedSamples(samples, most=self.most, number=SPLITS.index(name))


class PhotographedSamples:
    """A split of cases whose photographs are made when they are read."""

    def __init__(self, samples: ArraySamples, *, most: int, number: int) -> None:
        self.samples, self.most, self.number = samples, most, number

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, places: list[int]) -> Batch:
        """Read the photographs of some cases; ``views`` holds the first of each."""
        raw = self.samples.__getitems__(places)
        images = raw["views"][0].float()
        images = images / 255 if raw["views"][0].dtype == torch.uint8 else images
        generator = SampleGenerator(SEED, self.number, raw["index"])
        counts = (1 + generator.integers(high=self.most)).tolist()
        photos = torch.stack([photograph(images, generator) for _ in range(self.most)], 1)
        batch: Batch = {**raw, "views": [photos[:, 0].contiguous()]}
        batch["instances"] = [each[:count] for each, count in zip(photos, counts, strict=True)]
        return batch


def photograph(images: Tensor, generator: SampleGenerator) -> Tensor:
    """[B, C, H, W] in [0, 1] -> uint8: the same objects in another pose, light and noise."""
    unit = generator.uniform(5)
    angle, scale = (unit[:, 0] - 0.5) * 2 * torch.pi / 9, 0.85 + 0.3 * unit[:, 1]
    gain, move = 0.6 + 0.8 * unit[:, 2], 0.4 * (unit[:, 3:5] - 0.5)  # the grid is 2 wide
    sine, cosine = angle.sin() / scale, angle.cos() / scale
    rows = torch.stack([cosine, -sine, move[:, 0], sine, cosine, move[:, 1]], 1)
    grid = F.affine_grid(rows.view(-1, 2, 3), list(images.shape), align_corners=False)
    posed = F.grid_sample(images, grid, align_corners=False) * gain[:, None, None, None]
    noise = 0.05 * generator.normal(*images.shape[1:])
    return ((posed + noise).clamp(0, 1) * 255).round().to(torch.uint8)
