"""Splits of image files: listing, checking, decoding by threads, and a cache in memory."""

from __future__ import annotations

import copy
import math
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlabeled.data.decode import (
    PEAKS,
    SUFFIXES,
    UNREADABLE,
    Header,
    Target,
    read_header,
    read_image,
    read_peak,
    reason,
)
from unlabeled.data.images import STORED, log, stacked
from unlabeled.data.names import Names
from unlabeled.data.order import spread
from unlabeled.method import Batch

CHECK_ALL = 20_000
CHECK_SAMPLE = 2_000
PEAK_SAMPLE = 64
FEW = 10
"""So many unreadable files never stop a run; more do if they are above 1 % of all."""
SMALLEST_SIDE, LARGEST_SIDE = 32, 96


class Faults:
    """The files of a source that cannot be read; too many of them stop the run."""

    def __init__(self, source: str, total: int) -> None:
        self.source, self.total = source, total
        self.found: dict[str, str] = {}
        self._lock = threading.Lock()

    def dropped(self, found: dict[str, str], *, checked: int) -> None:
        """Report files that are left out from the start, in one line."""
        self.found.update(found)
        if found:
            of = f"{checked:,} files" if checked == self.total else f"{checked:,} files looked at"
            log.warning(
                "%s: %d of %s cannot be read and are skipped: %s",
                self.source, len(found), of, listed(found),
            )  # fmt: skip
        self._stop_if_many(checked)

    def add(self, path: str, why: str, *, then: str = "the next image takes its place") -> None:
        """Report a file whose header was good and whose pixels are not."""
        with self._lock:
            if path in self.found:
                return
            self.found[path] = why
            log.warning(
                "%s: %s cannot be read (%s): %s",
                self.source, path, why, then,
            )  # fmt: skip
            self._stop_if_many(self.total)

    def _stop_if_many(self, looked_at: int) -> None:
        if len(self.found) > max(FEW, looked_at / 100):
            raise ValueError(
                f"{self.source}: {len(self.found)} of {looked_at:,} files cannot be read, more "
                f"than 1 %: {listed(self.found, most=50)}. Repair or remove them"
            )


def listed(found: dict[str, str], most: int = 10) -> str:
    """Return "a.jpg (empty file), b.png (...), and 3 more"."""
    text = ", ".join(f"{path} ({why})" for path, why in list(found.items())[:most])
    return text if len(found) <= most else f"{text}, and {len(found) - most} more"


def list_images(root: str) -> list[str]:
    """Return the image files below a folder, relative to it and sorted; opens none.

    Hidden entries are left out. Linked folders are entered once, after all others, so that loops
    end.
    """
    found: list[str] = []
    folders, links, seen = [""], list[str](), set[tuple[int, int]]()
    while folders or links:
        folder = folders.pop() if folders else links.pop()
        status = os.stat(os.path.join(root, folder))
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in _entries(root, folder):
            name = entry.name
            if name.startswith(".") or name == "__MACOSX":
                continue
            below = f"{folder}/{name}" if folder else name
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append(below)
            elif os.path.splitext(name)[1].lower() in SUFFIXES:
                found.append(below)
        links.sort(reverse=True)
    found.sort()
    return found


def _entries(root: str, folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(os.path.join(root, folder)) as entries:
            return list(entries)
    except PermissionError:
        if not folder:
            raise
        log.warning("%s: no permission to read its folder %s, which is left out", root, folder)
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: left to be reported as an unreadable file
        return False


class FileStore:
    """Image files of one source: checked on creation, decoded on demand, kept in memory.

    Up to 20,000 files each header is read, of more a sample of 2,000; the unreadable ones are
    left out. Channels (1 if all sampled files are gray, the most common number if above 3,
    else 3), depth (float32 if most files have more than 8 bits, else uint8) and the recommended
    side (median shorter side, down to a multiple of 16, within 32 .. 96) follow from them.

    Args:
        source: what messages call it.
        root: the folder that ``paths`` are relative to.
        channels, image_size: instead of what the files say.
        cache_bytes: decoded images are kept up to this size.
    """

    def __init__(
        self,
        source: str,
        *,
        root: str,
        paths: Sequence[str],
        channels: int | None,
        image_size: int | None,
        cache_bytes: int,
    ) -> None:
        self.root, self.cache_bytes = root, cache_bytes
        self.faults = Faults(source, len(paths))
        look = range(len(paths)) if len(paths) <= CHECK_ALL else spread(len(paths), CHECK_SAMPLE)
        headers = dict(
            zip(look, self._threads(self._header, [paths[at] for at in look]), strict=True)
        )
        bad = {paths[at]: why for at, why in headers.items() if isinstance(why, str)}
        self.faults.dropped(bad, checked=len(headers))
        self.paths = Names.of(path for path in paths if path not in bad)
        good = [header for header in headers.values() if isinstance(header, Header)]
        self._recommended = recommended_side(good)
        self.image_size = image_size or self._recommended
        wide = [
            paths[at] for at, header in headers.items()
            if isinstance(header, Header) and header.kind == "wide"
        ]  # fmt: skip
        self.target = Target(
            channels=channels or common_channels(good),
            side=math.ceil(self.image_size * STORED),
            deep=2 * sum(header.kind != "byte" for header in good) > len(good),
            peak=self._peak(wide),
        )
        self._forget()

    def at(self, image_size: int | None, *, cache_bytes: int) -> FileStore:
        """Return a store of the same files, looked at once, that decodes to another size."""
        other = copy.copy(self)
        other.image_size, other.cache_bytes = image_size or self._recommended, cache_bytes
        other.target = replace(self.target, side=math.ceil(other.image_size * STORED))
        other._forget()
        return other

    def _forget(self) -> None:
        self._kept: dict[int, Tensor] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def full_path(self, place: int) -> str:
        """Return a file's path, opened from where the program runs."""
        return os.path.join(self.root, self.paths[place])

    def read(self, places: Sequence[int]) -> list[Tensor | None]:
        """Read images [C, H, W] from memory or by threads; None for a file that cannot be read."""
        images = {place: self._kept.get(place) for place in places}
        missing = [
            place for place, image in images.items()
            if image is None and self.paths[place] not in self.faults.found
        ]  # fmt: skip
        images.update(zip(missing, self._threads(self._decode, missing), strict=True))
        return [images[place] for place in places]

    def _decode(self, place: int) -> Tensor | None:
        path = self.full_path(place)
        try:
            image = read_image(path, self.target)
        except UNREADABLE as error:
            self.faults.add(self.paths[place], reason(error, path))
            return None
        with self._lock:
            if self._bytes + image.nbytes <= self.cache_bytes:
                self._kept[place] = image
                self._bytes += image.nbytes
        return image

    def _header(self, path: str) -> Header | str:
        path = os.path.join(self.root, path)
        try:
            return read_header(path)
        except UNREADABLE as error:
            return reason(error, path)

    def _peak(self, wide: Sequence[str]) -> float:
        largest = 0.0
        for at in spread(len(wide), PEAK_SAMPLE):
            try:
                largest = max(largest, read_peak(os.path.join(self.root, wide[at])))
            except UNREADABLE:
                continue  # reported when it is decoded
        return next((peak for peak in PEAKS if largest <= peak), PEAKS[-1])

    @staticmethod
    def _threads(function: Any, items: Sequence[Any]) -> Iterator[Any]:
        if len(items) < 2:
            return map(function, items)
        with ThreadPoolExecutor(min(len(items), os.cpu_count() or 1)) as pool:
            return iter(list(pool.map(function, items)))


def recommended_side(headers: Sequence[Header]) -> int:
    """Return the median shorter side, down to a multiple of 16, within 32 .. 96."""
    sides = sorted(min(header.height, header.width) for header in headers)
    median = sides[len(sides) // 2] if sides else SMALLEST_SIDE
    return min(max(median // 16 * 16, SMALLEST_SIDE), LARGEST_SIDE)


def common_channels(headers: Sequence[Header]) -> int:
    """Return 1 if all are gray, the most common number if that is above 3, else 3."""
    counts = Counter(header.bands for header in headers)
    if not counts or set(counts) == {1}:
        return 1
    most = counts.most_common(1)[0][0]
    return most if most > 3 else 3


class FileSamples:
    """A split of files. An unreadable file is replaced by the next readable one of the split.

    ``label`` and ``path`` follow the pixels; ``index`` stays as asked.
    """

    def __init__(
        self,
        store: FileStore,
        places: Sequence[int] | NDArray[np.int64],
        *,
        label: Tensor | None = None,
    ) -> None:
        self.store, self.label = store, label
        self.places = np.asarray(places, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.places)

    def __getitems__(self, places: list[int]) -> Batch:
        """Read one batch: a tensor [B, C, H, W], or a list of [C, H, W] where sizes differ."""
        read = self.store.read(self.places[places].tolist())
        images, taken = [], list(places)
        for row, image in enumerate(read):
            while image is None:
                taken[row] = (taken[row] + 1) % len(self)
                if taken[row] == places[row]:
                    raise ValueError(f"{self.store.faults.source}: no file of it can be read")
                image = self.store.read([int(self.places[taken[row]])])[0]
            images.append(image)
        batch = Batch(
            views=[stacked(images)],
            index=torch.as_tensor(places, dtype=torch.int64),
            path=[self.store.full_path(place) for place in self.places[taken].tolist()],
        )
        if self.label is not None:
            batch["label"] = self.label[torch.as_tensor(taken, dtype=torch.int64)]
        return batch
