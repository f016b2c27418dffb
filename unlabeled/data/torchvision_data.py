"""Classification data sets of torchvision by name, and ImageNet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from unlabeled.data.arrays import as_images
from unlabeled.data.decode import Header, Target, from_pil
from unlabeled.data.files import recommended_side
from unlabeled.data.folder import CACHE_BYTES, ImageFolder, check_fields
from unlabeled.data.images import STORED, ArraySamples, ImageSource, cache_folder, no_split, stacked
from unlabeled.data.order import spread
from unlabeled.data.source import ImageSpec, Samples
from unlabeled.method import Batch

Options = dict[str, Any]
_FLAG: dict[str, Options] = {"train": {"train": True}, "test": {"train": False}}
_TEST: dict[str, Options] = {"train": {"split": "train"}, "test": {"split": "test"}}
_VAL: dict[str, Options] = {"train": {"split": "train"}, "test": {"split": "val"}}
_TRAINVAL: dict[str, Options] = {"train": {"split": "trainval"}, "test": {"split": "test"}}
_WHOLE: dict[str, Options] = {}  # one part only: crc32(place) % 5 == 0 is the test split

SETS: dict[str, dict[str, Options]] = {
    "CIFAR10": _FLAG, "CIFAR100": _FLAG, "MNIST": _FLAG, "KMNIST": _FLAG, "QMNIST": _FLAG,
    "FashionMNIST": _FLAG, "USPS": _FLAG,
    "EMNIST": {name: {"split": "balanced", **flag} for name, flag in _FLAG.items()},
    "STL10": {**_TEST, "unlabeled": {"split": "unlabeled"}},
    "SVHN": _TEST, "Flowers102": _TEST, "Food101": _TEST, "DTD": _TEST, "GTSRB": _TEST,
    "PCAM": _TEST, "StanfordCars": _TEST, "RenderedSST2": _TEST, "Country211": _TEST,
    "Imagenette": _VAL, "CLEVRClassification": _VAL,
    "OxfordIIITPet": _TRAINVAL, "FGVCAircraft": _TRAINVAL,
    "EuroSAT": _WHOLE, "SEMEION": _WHOLE, "SUN397": _WHOLE, "Caltech101": _WHOLE,
    "Caltech256": _WHOLE,
}  # fmt: skip
SPECS = {
    "CIFAR10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "CIFAR100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "MNIST": ((0.1307,), (0.3081,)),
    "STL10": ((0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2713)),
}
"""Mean and std of sets that papers train on, so that such a recipe builds without the files."""
SIDES = {"MNIST": 28, "STL10": 96}
"""Their sides in pixels, where these are not 32."""
SIZE_SAMPLE = 64


@dataclass(frozen=True)
class Torchvision(ImageSource):
    """A data set of torchvision: arrays where it has them, else images decoded by threads.

    Nothing is fetched before `get` is called. Sets without a split of their own are cut by
    crc32(place) % 5 == 0 (test).

    Args:
        set_name: one of `SETS`, such as "CIFAR10".
        root: the folder given to torchvision; by default torchvision/NAME in our cache folder.
        image_size: recommended side; by default what suits the images.
        cache_bytes: memory for decoded images.

    Raises:
        ValueError: a name that is not in `SETS`.
        FileNotFoundError: at the first use, if the files are not in the folder.
    """

    set_name: str
    _: KW_ONLY
    root: str | None = None
    image_size: int | None = None
    cache_bytes: int = CACHE_BYTES

    def __post_init__(self) -> None:
        check_fields(None, self.image_size)
        if self.set_name not in SETS:
            lower = {name.lower(): name for name in SETS}
            near = get_close_matches(self.set_name.lower(), lower, n=1)
            hint = f" Did you mean torchvision/{lower[near[0]]}?" if near else ""
            raise ValueError(
                f"no data set torchvision/{self.set_name}.{hint} There are {', '.join(SETS)}"
            )

    @property
    def name(self) -> str:
        """The set's name in lower case."""
        return self.set_name.lower()

    @property
    def folder(self) -> Path:
        """Where torchvision looks for the files."""
        if self.root is not None:
            return Path(self.root).expanduser()
        return cache_folder("torchvision") / self.set_name

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The set's class names, or numbers where it has none."""
        part = _part(self, "train")
        names = getattr(part, "classes", None)
        if names:
            return tuple(" ".join(n) if isinstance(n, tuple) else str(n) for n in names)
        label = _labels(part)
        return None if label is None else tuple(str(n) for n in range(int(label.max()) + 1))

    def spec(self) -> ImageSpec:
        """Return channels, side and statistics: those in `SPECS` need no files."""
        if self.set_name not in SPECS:
            return super().spec()
        mean, std = SPECS[self.set_name]
        side = self.image_size or SIDES.get(self.set_name, 32)
        return ImageSpec(channels=len(mean), size=side, mean=mean, std=std)

    def side(self, images: Tensor | list[Tensor]) -> int:
        """Return ``image_size``, the arrays' side, or what suits the images."""
        if self.image_size is None and isinstance(images, Tensor):
            samples = self.split("train")
            if isinstance(samples, ArraySamples):
                return super().side(images)
        return self.image_size or _side(self)

    def at(self, side: int) -> Torchvision:
        """Return the set with images kept for an encoder that takes ``side`` pixels."""
        return replace(self, image_size=side)

    def split(self, name: str) -> Samples:
        """Return "train" or "test" (STL10 also has "unlabeled")."""
        known = SETS[self.set_name] or ("train", "test")
        if name not in known:
            raise no_split(f"torchvision/{self.set_name}", name, known)
        return _split(self, name)


def get(set_name: str) -> Path:
    """Download a set with torchvision into our cache folder.

    Raises:
        OSError: the download failed.
    """
    source = Torchvision(set_name)
    for options in SETS[set_name].values() or [{}]:
        try:
            _build(source, options, download=True)
        except (OSError, RuntimeError) as error:
            text = " ".join(str(error).split())[:200]
            raise OSError(f"torchvision/{set_name} cannot be downloaded: {text}") from error
    return source.folder


def _build(source: Torchvision, options: Options, *, download: bool) -> Any:
    import torchvision.datasets

    kind = getattr(torchvision.datasets, source.set_name)
    if download:
        source.folder.mkdir(parents=True, exist_ok=True)
    return kind(root=str(source.folder), download=download, **options)


@lru_cache(maxsize=4)
def _part(source: Torchvision, split: str) -> Any:
    try:
        return _build(source, SETS[source.set_name].get(split, {}), download=False)
    except (OSError, RuntimeError) as error:
        if source.folder.is_dir() and any(source.folder.iterdir()):
            why = f" ({' '.join(str(error).split())[:120]})"
        else:
            why = ""
        raise FileNotFoundError(
            f"torchvision/{source.set_name} is not in {source.folder}{why}: "
            f"run: unlabeled data get torchvision/{source.set_name}"
        ) from error


def _labels(part: Any) -> Tensor | None:
    for name in ("targets", "labels"):
        values = getattr(part, name, None)
        if values is not None:
            label = torch.as_tensor(np.asarray(values)).long()
            return None if (label < 0).any() else label
    return None


@lru_cache(maxsize=4)
def _split(source: Torchvision, name: str) -> Samples:
    whole = not SETS[source.set_name]
    part = _part(source, "train" if whole else name)
    keep: list[int] | None = None
    if whole:
        test = [crc32(str(place).encode()) % 5 == 0 for place in range(len(part))]
        keep = [place for place, held in enumerate(test) if held == (name == "test")]
    data = getattr(part, "data", None)
    if isinstance(data, np.ndarray | Tensor):
        images = as_images(np.asarray(data), path=f"torchvision/{source.set_name}")
        label = _labels(part)
        if keep is not None:
            images, label = images[keep], None if label is None else label[keep]
        return ArraySamples(images, label=label)
    stored = ceil(STORED * (source.image_size or _side(source)))
    places = range(len(part)) if keep is None else keep
    return ItemSamples(part, places, side=stored, cache_bytes=source.cache_bytes)


@lru_cache(maxsize=16)
def _side(source: Torchvision) -> int:
    part = _part(source, "train")
    sizes = [part[place][0].size for place in spread(len(part), SIZE_SAMPLE)]
    return recommended_side([Header(3, "byte", height, width) for width, height in sizes])


class ItemSamples:
    """A split of (PIL image, class) items, read by threads and kept in memory."""

    def __init__(self, items: Any, places: Sequence[int], *, side: int, cache_bytes: int) -> None:
        self.items, self.places, self.cache_bytes = items, places, cache_bytes
        self.target = Target(channels=3, side=side)
        self._kept: dict[int, tuple[Tensor, int]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.places)

    def __getitems__(self, places: list[int]) -> Batch:
        """Read one batch: a tensor [B, 3, H, W], or a list of [3, H, W] where sizes differ."""
        with ThreadPoolExecutor(min(len(places), os.cpu_count() or 1)) as pool:
            read = list(pool.map(self._item, places))
        images = [image for image, _ in read]
        return Batch(
            views=[stacked(images)],
            index=torch.as_tensor(places, dtype=torch.int64),
            label=torch.tensor([label for _, label in read]),
        )

    def _item(self, place: int) -> tuple[Tensor, int]:
        kept = self._kept.get(place)
        if kept is not None:
            return kept
        image, label = self.items[self.places[place]]
        item = from_pil(image, self.target), int(label)
        if self._bytes + item[0].nbytes <= self.cache_bytes:
            self._kept[place] = item
            self._bytes += item[0].nbytes
        return item


@dataclass(frozen=True)
class ImageNet(ImageSource):
    """ImageNet-1k (Russakovsky et al. 2015) in folders train/CLASS and val/CLASS.

    ``spec`` and ``size`` need no files, so that a paper's own recipe builds without them; "test"
    is the validation set, as in the papers.

    Raises:
        FileNotFoundError: at the first ``split``, if ``root`` (by default imagenet in our cache
            folder) has no train/ and val/.
    """

    root: str | None = None

    @property
    def name(self) -> str:
        """``imagenet``."""
        return "imagenet"

    @property
    def classes(self) -> tuple[str, ...]:
        """The 1,000 WordNet ids that name the folders."""
        found = self._folder().classes
        if found is None:
            raise ValueError(
                f"{self._root()}: sort the images of train/ and val/ into class folders"
            )
        return found

    def size(self, split: str) -> int:
        """1,281,167 or 50,000; needs no files."""
        sizes = {"train": 1_281_167, "test": 50_000}
        if split not in sizes:
            raise no_split(self.name, split, sizes)
        return sizes[split]

    def spec(self) -> ImageSpec:
        """Return 224 px, three channels and the usual statistics; needs no files."""
        return ImageSpec(
            channels=3, size=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
        )

    def split(self, name: str) -> Samples:
        """Return "train" or "test"."""
        if name not in ("train", "test"):
            raise no_split(self.name, name, ("train", "test"))
        return self._folder().split(name)

    def _root(self) -> Path:
        return cache_folder("imagenet") if self.root is None else Path(self.root).expanduser()

    def _folder(self) -> ImageFolder:
        root = self._root()
        if not ((root / "train").is_dir() and (root / "val").is_dir()):
            raise FileNotFoundError(
                f"imagenet is not in {root}: give as root a folder with train/CLASS/ and "
                "val/CLASS/ (from image-net.org), or train on your own data with --data"
            )
        return ImageFolder(str(root), channels=3, image_size=224)
