"""A text file that lists images."""

from __future__ import annotations

import csv
import os
from collections import Counter
from dataclasses import KW_ONLY, dataclass, replace
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from unlabeled.data.decode import SUFFIXES
from unlabeled.data.files import FileSamples, FileStore, listed
from unlabeled.data.folder import CACHE_BYTES, Opened, check_fields, held_out, open_files
from unlabeled.data.images import ImageSource


@dataclass(frozen=True)
class PathList(ImageSource):
    """Images that a .txt, .csv or .tsv file lists, one a line, relative to that file.

    A label may follow a tab (.txt, .tsv) or a comma (.txt, .csv); all lines have one, or none.
    Blank lines and lines that start with # are skipped; a .csv may have the header ``path,label``
    (or only ``path``), in any order and with more columns. Labeled images are split as in
    `unlabeled.data.folder.ImageFolder`.

    Args:
        path: the list.
        channels, image_size, cache_bytes: as for a folder.

    Raises:
        FileNotFoundError: no such list.
        ValueError: nothing in it, labels on some lines only, or unreadable images.
    """

    path: str
    _: KW_ONLY
    channels: int | None = None
    image_size: int | None = None
    cache_bytes: int = CACHE_BYTES

    def __post_init__(self) -> None:
        check_fields(self.channels, self.image_size)
        if not os.path.isfile(self.path):
            raise FileNotFoundError(f"{self.path} does not exist: give a text file of paths")

    @property
    def name(self) -> str:
        """The list's name."""
        return Path(self.path).stem

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The labels, sorted; None where there are none."""
        return _open(self).classes

    def side(self, images: Tensor | list[Tensor]) -> int:
        """Return ``image_size`` or what suits the files."""
        return _open(self).store.image_size

    def at(self, side: int) -> PathList:
        """Return the list with images decoded for an encoder that takes ``side`` pixels."""
        return replace(self, image_size=side)

    def split(self, name: str) -> FileSamples:
        """Return "train", "all" or, where there are labels, "test"."""
        return self.files().split(name, source=self.path)

    def files(self) -> Opened:
        """Return all splits over their one store of files."""
        return _open(self)


@lru_cache(maxsize=2)
def _open(source: PathList) -> Opened:
    found = _listed(source.path, source.channels)
    return found.at(source.image_size, cache_bytes=source.cache_bytes)


@lru_cache(maxsize=2)
def _listed(path: str, channels: int | None) -> Opened:
    rows = read_rows(path)
    labels = dict(rows)
    if len(labels) < len(rows):
        twice = Counter(each for each, _ in rows).most_common(1)[0][0]
        raise ValueError(f"{path} lists {twice} more than once: list each image once")
    unlabeled = [each for each, label in rows if label is None]
    if 0 < len(unlabeled) < len(rows):
        raise ValueError(
            f"{path}: {len(unlabeled)} of {len(rows)} lines have no label, the first is "
            f"{unlabeled[0]}: give one on each line, or on none"
        )
    store = FileStore(
        path,
        root=os.path.dirname(path),
        paths=list(labels),
        channels=channels,
        image_size=None,
        cache_bytes=0,
    )
    if not store.paths:
        raise ValueError(f"{path}: no image can be read: {listed(store.faults.found)}")
    values = [label for each in store.paths if (label := labels[each]) is not None]
    return open_files(
        store,
        values if values and len(set(values)) > 1 else None,
        test=held_out,
    )


def read_rows(path: str) -> list[tuple[str, str | None]]:
    """Return (path, label or None) a line.

    Raises:
        ValueError: no lines, or no text file.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no UTF-8 text ({error.reason}): list one path a line"
        ) from error
    kept = [line for line in lines if line.strip() and not line.startswith("#")]
    if not kept:
        raise ValueError(f"{path} lists no images: write one path a line")
    if path.endswith(".txt"):
        return [_cut(line) for line in kept]
    table = list(csv.reader(kept, delimiter="\t" if path.endswith(".tsv") else ","))
    at, label_at = 0, 1
    if "path" in table[0]:
        head, *table = table
        at = head.index("path")
        label_at = head.index("label") if "label" in head else len(head)
    short = next((row for row in table if len(row) <= at), None)
    if short is not None:
        raise ValueError(f"{path}: the line {short} has no column {at + 1}, where paths are")
    return [
        (row[at].strip(), row[label_at].strip() if label_at < len(row) else None) for row in table
    ]


def _cut(line: str) -> tuple[str, str | None]:
    for mark in ("\t", ","):
        path, found, label = line.rpartition(mark)
        if found and os.path.splitext(path.rstrip())[1].lower() in SUFFIXES:  # not "a,b.jpg"
            return path.strip(), label.strip()
    return line.strip(), None
