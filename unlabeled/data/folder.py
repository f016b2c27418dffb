"""A folder of images, with or without class folders and splits."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from unlabeled.data.decode import SUFFIXES
from unlabeled.data.files import FileSamples, FileStore, list_images, listed
from unlabeled.data.images import ImageSource, as_labels, log, no_split

TRAIN = ("train", "training")
VAL = ("val", "valid", "validation")
TEST = ("test", "testing")
CACHE_BYTES = 2 * 2**30


@dataclass(frozen=True)
class ImageFolder(ImageSource):
    """All image files below a folder: JPEG, PNG, WebP, TIFF, BMP, GIF, PNM, and .npy of one image.

    Splits: folders ``train`` and ``test`` (or ``val``) at the top are splits. Elsewhere, where
    every image lies in one of two or more class folders (the first folder below the top), every
    image with crc32(relative path) % 5 == 0 is "test", the others are "train". Without labels all
    images are "train". "all" is everything.

    Files that cannot be read are named once and left out; more than 1 % of them (and more than
    ten) stop the run. See `unlabeled.data.decode.read_image` for what becomes of modes and depths.
    Of images longer than 8:1 the center counts. Images are decoded to a shorter side of at most
    twice ``image_size`` and kept in memory up to ``cache_bytes``.

    Args:
        path: the folder.
        channels: convert all images to so many; by default 1 if all are gray, else 3, or N.
        image_size: recommended side; by default the median shorter side within 32 .. 96.
        cache_bytes: memory for decoded images.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no images, or too many unreadable ones, at the first use.
    """

    path: str
    _: KW_ONLY
    channels: int | None = None
    image_size: int | None = None
    cache_bytes: int = CACHE_BYTES

    def __post_init__(self) -> None:
        check_fields(self.channels, self.image_size)
        if not os.path.isdir(self.path):
            if os.path.exists(self.path):
                raise ValueError(f"{self.path} is a file: give the folder that holds the images")
            raise FileNotFoundError(f"{self.path} does not exist: give a folder of images")

    @property
    def name(self) -> str:
        """The folder's name."""
        return Path(self.path).resolve().name

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The class folders, sorted; None where there are none."""
        return _open(self).classes

    def side(self, images: Tensor | list[Tensor]) -> int:
        """Return ``image_size`` or what suits the files."""
        return _open(self).store.image_size

    def at(self, side: int) -> ImageFolder:
        """Return the folder with images decoded for an encoder that takes ``side`` pixels."""
        return replace(self, image_size=side)

    def split(self, name: str) -> FileSamples:
        """Return "train", "all" or, where there is one, "test" or "val"."""
        return self.files().split(name, source=self.path)

    def files(self) -> Opened:
        """Return all splits over their one store of files."""
        return _open(self)


class Opened(NamedTuple):
    """The splits of a source of files."""

    store: FileStore
    splits: dict[str, FileSamples]
    classes: tuple[str, ...] | None
    without_test: str

    def at(self, image_size: int | None, *, cache_bytes: int) -> Opened:
        """Return the same splits over a store that decodes to another size."""
        store = self.store.at(image_size, cache_bytes=cache_bytes)
        splits = {
            name: FileSamples(store, samples.places, label=samples.label)
            for name, samples in self.splits.items()
        }
        return self._replace(store=store, splits=splits)

    def split(self, name: str, *, source: str) -> FileSamples:
        """Return the split or raise a ValueError that lists those there are."""
        if name not in self.splits:
            raise no_split(source, name, self.splits, self.without_test if name == "test" else "")
        if name == "train" and len(self.splits[name]) < 2:
            raise ValueError(f"{source} has one readable image: learning needs two or more")
        return self.splits[name]


def check_fields(channels: int | None, image_size: int | None) -> None:
    """Refuse numbers that no image can have."""
    if channels is not None and channels < 1:
        raise ValueError(f"channels is {channels}: give 1, 3 or the number of bands")
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size is {image_size}: give a side in pixels")


@lru_cache(maxsize=2)
def _open(source: ImageFolder) -> Opened:
    # once for all sizes: a run asks for the folder's own and then for that of its encoder
    found = _listed(source.path, source.channels)
    return found.at(source.image_size, cache_bytes=source.cache_bytes)


@lru_cache(maxsize=2)
def _listed(path: str, channels: int | None) -> Opened:
    paths = list_images(path)
    if not paths:
        raise ValueError(f"{path} holds no images ({_contents(path)})")
    splits = _explicit_splits(path, paths)
    if splits is not None:
        paths = [each for each in paths if _first(each) in splits]
    store = FileStore(
        path,
        root=path,
        paths=paths,
        channels=channels,
        image_size=None,
        cache_bytes=0,
    )
    del paths  # of a million files they take 100 MB
    if not store.paths:
        raise ValueError(f"{path}: no image can be read: {listed(store.faults.found)}")
    depth = 0 if splits is None else 1
    names = [_folder(each, depth) for each in store.paths]
    labeled = all(names) and len(set(names)) > 1
    values = names if labeled else None
    if splits is not None and not labeled and any(names):
        flat = [each for each, name in zip(store.paths, names, strict=True) if not name]
        where = f"{len(flat)} images lie in none, such as {flat[0]}" if flat else "only one"
        log.warning("%s: no labels, since not all images have class folders (%s)", path, where)
    if splits is None:
        return open_files(store, values, test=held_out)
    of = [splits[_first(each)] for each in store.paths]
    return open_files(store, values, splits=of)


def open_files(
    store: FileStore,
    values: Sequence[str] | None,
    *,
    test: Callable[[str], bool] | None = None,
    splits: Sequence[str] | None = None,
) -> Opened:
    """Cut a store into splits: by a name a file, or by ``test(path)`` where there are labels."""
    label, classes = (None, None) if values is None else as_labels(values)
    without_test = "no class folders, so nothing is set apart"
    if splits is None and (values is None or test is None):
        splits = ["train"] * len(store.paths)
    elif splits is None and test is not None:
        splits = ["test" if test(path) else "train" for path in store.paths]
        without_test = "too few images to set any apart"
    assert splits is not None
    if "test" not in splits and "val" in splits:
        splits = ["test" if split == "val" else split for split in splits]
    if "train" not in splits:  # a handful of files that all fell to "test"
        splits = ["train"] * len(store.paths)

    names = [name for name in ("train", "val", "test") if name in splits]
    code = {name: number for number, name in enumerate(names)}
    codes = np.fromiter((code[split] for split in splits), np.uint8, count=len(splits))
    cut = {}
    for name in names:
        places = np.flatnonzero(codes == code[name])
        part = None if label is None else label[torch.from_numpy(places)]
        cut[name] = FileSamples(store, places, label=part)
    whole = FileSamples(store, np.arange(len(splits)), label=label)
    return Opened(store, {**cut, "all": whole}, classes, without_test)


def held_out(path: str) -> bool:
    """Return whether a file without a split of its own is "test": one in five, by its path."""
    return crc32(path.encode("utf-8", "surrogateescape")) % 5 == 0


def _first(path: str) -> str:
    return path.split("/", 1)[0] if "/" in path else ""


def _folder(path: str, depth: int) -> str:
    """Return the folder at a depth, the same object for all files in it; "" where there is none."""
    parts = path.split("/", depth + 1)
    return sys.intern(parts[depth]) if len(parts) > depth + 1 else ""


def _explicit_splits(root: str, paths: Sequence[str]) -> dict[str, str] | None:
    """Return folder at the top -> split, or None where the folder has no splits."""
    tops = Counter(_first(path) for path in paths)
    names = {
        top: split
        for top in tops
        for split, spelled in (("train", TRAIN), ("val", VAL), ("test", TEST))
        if top.lower() in spelled
    }
    others = {top or "files at the top": count for top, count in tops.items() if top not in names}
    if "train" not in names.values() or (len(set(names.values())) == 1 and others):
        return None
    if others:
        text = ", ".join(f"{top} ({count:,} images)" for top, count in list(others.items())[:5])
        log.warning("%s has splits %s: %s left out", root, ", ".join(sorted(names)), text)
    return names


def _contents(root: str) -> str:
    suffixes: Counter[str] = Counter()
    for _, _, files in os.walk(root):
        suffixes.update(os.path.splitext(file)[1].lower() or "no suffix" for file in files)
    if not suffixes:
        return "it is empty"
    most = sorted(suffixes.items(), key=lambda item: (-item[1], item[0]))[:4]
    found = ", ".join(f"{count} {suffix}" for suffix, count in most)
    return f"it has {found}; known are {' '.join(sorted(SUFFIXES))}"
