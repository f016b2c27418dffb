"""A pack: decoded images in one memory-mapped file, made by `unlabeled.data.packing.pack`.

A pack is a folder of four files:

- ``pixels.bin``: uint8 images [C, H, W], one after the other, each of its own size.
- ``index.npy``: one `ROW` an image: where its pixels start, height, width, label, split, CRC-32 of
  the pixels, and where its path ends in paths.bin.
- ``paths.bin``: paths relative to the source, joined (`unlabeled.data.names.Names`).
- ``pack.json``: channels, classes, splits, source, sizes and SHA-256 of the files above, and its
  own. It is written last: a folder without it is no pack.

Opening checks everything but the pixels (their size only); each image is checked when it is first
read, all by `verify`.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlabeled.data.images import ImageSource, no_split
from unlabeled.data.names import Names
from unlabeled.method import Batch

MARK, PIXELS, INDEX, PATHS = "pack.json", "pixels.bin", "index.npy", "paths.bin"
FORMAT = "unlabeled pack 1"
SPLITS = ("train", "val", "test")
ROW = np.dtype(
    [
        *(("start", "<i8"), ("height", "<i4"), ("width", "<i4"), ("label", "<i4")),
        *(("crc", "<u4"), ("split", "u1"), ("path_end", "<i8")),
    ]
)
"""Of one image. ``label`` is -1 where there is none, ``split`` a place in `SPLITS`."""
REMEDY = "pack it again (unlabeled data pack ... --overwrite)"


@dataclass(frozen=True)
class PackedImages(ImageSource):
    """Images of a pack: splits, labels and classes are those of the folder that was packed.

    Batches are copied out of the memory map with no decoding; the operating system keeps as much
    of the file in memory as there is room. Images have the pack's shorter side at most, whatever
    an encoder takes. ``path`` of a batch is relative to the packed folder.

    Args:
        path: the pack.
        image_size: recommended side; by default what suits the packed files.

    Raises:
        FileNotFoundError: no such pack.
        ValueError: a pack that is damaged or cut, at the first use; the message says where.
    """

    path: str
    _: KW_ONLY
    image_size: int | None = None

    def __post_init__(self) -> None:
        if not (Path(self.path) / MARK).is_file():
            raise FileNotFoundError(
                f"{self.path} is no pack (it has no {MARK}): make one with unlabeled data pack"
            )
        if self.image_size is not None and self.image_size < 1:
            raise ValueError(f"image_size is {self.image_size}: give a side in pixels")

    @property
    def name(self) -> str:
        """The pack's name."""
        return Path(self.path).resolve().name

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The class names of the packed source."""
        names = open_pack(self.path).facts["classes"]
        return None if names is None else tuple(names)

    def side(self, images: Tensor | list[Tensor]) -> int:
        """Return ``image_size`` or what suits the packed files."""
        return self.image_size or int(open_pack(self.path).facts["image_size"])

    def at(self, side: int) -> PackedImages:
        """Return the pack for an encoder that takes ``side`` pixels; images stay as they are."""
        return replace(self, image_size=side)

    def split(self, name: str) -> PackedSamples:
        """Return "train", "all" or, where there is one, "test" or "val"."""
        splits = open_pack(self.path).splits
        if name not in splits:
            why = "no labels, so nothing is set apart" if self.classes is None else ""
            raise no_split(self.path, name, splits, why if name == "test" else "")
        return splits[name]


class Pack:
    """An open pack: its facts, its index and the map of its pixels."""

    def __init__(self, path: str) -> None:
        self.path = path
        folder = Path(path)
        self.facts = read_facts(folder / MARK)
        for name, known in self.facts["files"].items():
            _check_file(folder / name, known)
        self.rows: NDArray[Any] = np.load(folder / INDEX, allow_pickle=False)
        blob = np.fromfile(folder / PATHS, np.uint8)
        self.names = Names(blob, self.rows["path_end"].copy())
        self.channels = int(self.facts["channels"])
        with (folder / PIXELS).open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.pixels = np.frombuffer(content, np.uint8)
        self._checked = np.zeros(len(self.rows), bool)
        self.splits: dict[str, PackedSamples] = {
            name: PackedSamples(self, np.flatnonzero(self.rows["split"] == SPLITS.index(name)))
            for name in self.facts["splits"]
        }
        self.splits["all"] = PackedSamples(self, np.arange(len(self.rows)))

    def read(self, places: NDArray[np.int64]) -> Tensor | list[Tensor]:
        """Copy images out of the map: [B, C, H, W], or a list of [C, H, W] where sizes differ.

        Raises:
            ValueError: pixels that are not what was packed; names the image.
        """
        rows = self.rows[places]
        sizes = self.channels * rows["height"].astype(np.int64) * rows["width"]
        bounds = list(zip(rows["start"].tolist(), sizes.tolist(), strict=True))
        for row in np.flatnonzero(~self._checked[places]).tolist():
            self._check(int(places[row]), *bounds[row], int(rows["crc"][row]))
        height, width = rows["height"].tolist(), rows["width"].tolist()
        if len(set(zip(height, width, strict=True))) == 1:
            shape = (self.channels, height[0], width[0])
            batch = np.empty((len(places), sizes[0]), np.uint8)
            for row, (start, size) in enumerate(bounds):
                batch[row] = self.pixels[start : start + size]
            return torch.from_numpy(batch.reshape(-1, *shape))
        return [
            torch.from_numpy(self.pixels[start : start + size].copy()).view(self.channels, *shape)
            for (start, size), *shape in zip(bounds, height, width, strict=True)
        ]

    def damaged(self, progress: Callable[[int, int], None] | None = None) -> list[str]:
        """Read all pixels and return the paths of the images that are not what was packed."""
        found = []
        sizes = self.channels * self.rows["height"].astype(np.int64) * self.rows["width"]
        columns = (self.rows["start"].tolist(), sizes.tolist(), self.rows["crc"].tolist())
        for place, (start, size, crc) in enumerate(zip(*columns, strict=True)):
            if crc32(self.pixels[start : start + size].data) != crc:
                found.append(self.names[place])
            if progress is not None and (place % 256 == 255 or place + 1 == len(self.rows)):
                progress(place + 1, len(self.rows))
        return found

    def _check(self, place: int, start: int, size: int, crc: int) -> None:
        if crc32(self.pixels[start : start + size].data) != crc:
            raise ValueError(
                f"{self.path}: the pixels of {self.names[place]} (bytes {start} to {start + size} "
                f"of {PIXELS}) are damaged: unlabeled data verify lists all, then {REMEDY}"
            )
        self._checked[place] = True


class PackedSamples:
    """A split of a pack."""

    def __init__(self, pack: Pack, places: NDArray[np.int64]) -> None:
        self.pack, self.places = pack, places
        labels = pack.rows["label"][places].astype(np.int64)
        known = pack.facts["classes"] is not None
        self.label = torch.from_numpy(labels) if known else None

    def __len__(self) -> int:
        return len(self.places)

    def __getitems__(self, places: list[int]) -> Batch:
        """Read one batch: a tensor [B, C, H, W], or a list of [C, H, W] where sizes differ."""
        rows = self.places[places]
        index = torch.as_tensor(places, dtype=torch.int64)
        batch = Batch(
            views=[self.pack.read(rows)],
            index=index,
            path=[self.pack.names[place] for place in rows.tolist()],
        )
        if self.label is not None:
            batch["label"] = self.label.index_select(0, index)
        return batch


def open_pack(path: str) -> Pack:
    """Return an open pack, one object as long as the pack is not replaced.

    Raises:
        ValueError: a file of it is missing, cut or damaged.
    """
    status = os.stat(Path(path) / MARK)
    return _open(path, status.st_ino, status.st_mtime_ns)


@lru_cache(maxsize=4)
def _open(path: str, inode: int, changed: int) -> Pack:
    return Pack(path)


def verify(
    path: str, *, progress: Callable[[int, int], None] | None = None
) -> dict[str, int | list[str]]:
    """Check every byte of a pack; return its counts and the paths of damaged images.

    Raises:
        FileNotFoundError: no pack.
        ValueError: damage outside the pixels; the message names the file.
    """
    PackedImages(path)
    pack = Pack(path)
    return {
        "images": len(pack.rows),
        "bytes": len(pack.pixels),
        "damaged": pack.damaged(progress),
    }


def is_pack(folder: Path) -> bool:
    """Return whether a folder holds a finished pack, damaged or not."""
    return (folder / MARK).is_file()


def facts_text(facts: Mapping[str, Any]) -> str:
    """Return the text of pack.json, with its own checksum as the last key."""
    return json.dumps({**facts, "sha256": _digest(facts)}, indent=1) + "\n"


def read_facts(path: Path) -> dict[str, Any]:
    """Read pack.json.

    Raises:
        ValueError: it is damaged, or of another version.
    """
    try:
        facts: dict[str, Any] = json.loads(path.read_bytes())
        known = facts.pop("sha256")
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}): {REMEDY}") from error
    if known != _digest(facts):
        raise ValueError(f"{path} is damaged (its checksum differs): {REMEDY}")
    if facts["format"] != FORMAT:
        raise ValueError(f"{path} is a {facts['format']!r}, this version reads {FORMAT!r}")
    return facts


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _check_file(path: Path, known: Mapping[str, Any]) -> None:
    size = path.stat().st_size if path.is_file() else None
    if size != known["bytes"]:
        found = "is missing" if size is None else f"has {size:,} bytes"
        raise ValueError(f"{path} {found}, {known['bytes']:,} were packed: {REMEDY}")
    if "sha256" in known:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != known["sha256"]:
                raise ValueError(f"{path} is damaged (its checksum differs): {REMEDY}")
