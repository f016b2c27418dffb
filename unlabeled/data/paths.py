"""A text or Parquet file that lists images."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from unlabeled.data.decode import SUFFIXES
from unlabeled.data.files import FileSamples, FileStore, listed
from unlabeled.data.folder import (
    CACHE_BYTES,
    TEST,
    TRAIN,
    VAL,
    Opened,
    check_fields,
    held_out,
    open_files,
)
from unlabeled.data.images import ImageSource
from unlabeled.extras import require

SPLITS = {"train": TRAIN, "val": VAL, "test": TEST}


@dataclass(frozen=True)
class PathList(ImageSource):
    """Images that a .txt, .csv, .tsv or .parquet file lists, one a line, relative to that file.

    A label may follow a tab (.txt, .tsv) or a comma (.txt, .csv); all lines have one, or none.
    Blank lines and lines that start with # are skipped; a .csv or .tsv may have the header
    ``path,label,split`` (or a part of it with ``path``), in any order and with more columns; a
    .parquet has these columns. ``split`` is train, val or test on each line; without it labeled
    images are split as in `unlabeled.data.folder.ImageFolder`.

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
    labels = {row.path: row for row in rows}
    if len(labels) < len(rows):
        twice = Counter(row.path for row in rows).most_common(1)[0][0]
        raise ValueError(f"{path} lists {twice} more than once: list each image once")
    for name in ("label", "split"):
        lacking = [row.path for row in rows if not getattr(row, name)]
        if 0 < len(lacking) < len(rows):
            raise ValueError(
                f"{path}: {len(lacking)} of {len(rows)} lines have no {name}, the first is "
                f"{lacking[0]}: give one on each line, or on none"
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
    kept = [labels[each] for each in store.paths]
    values = [row.label for row in kept if row.label]
    return open_files(
        store,
        values if len(set(values)) > 1 else None,
        test=held_out,
        splits=_splits(path, kept),
    )


def _splits(path: str, rows: Sequence[ListedImage]) -> list[str] | None:
    if not rows[0].split:
        return None
    spelled = {name: split for split, names in SPLITS.items() for name in names}
    found = [spelled.get((row.split or "").lower(), "") for row in rows]
    if "" in found:
        wrong = rows[found.index("")]
        raise ValueError(
            f"{path}: the split of {wrong.path} is {wrong.split!r}: use train, val or test"
        )
    if "train" not in found:
        raise ValueError(f"{path} has no line of the split train: mark some, or leave splits out")
    return found


class ListedImage(NamedTuple):
    """A line of a list."""

    path: str
    label: str | None = None
    split: str | None = None


def read_rows(path: str) -> list[ListedImage]:
    """Return what each line says.

    Raises:
        ValueError: no lines, no column of paths, or no text file.
        ImportError: .parquet without pyarrow.
    """
    if path.endswith(".parquet"):
        return _parquet_rows(path)
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
    columns = {"path": 0, "label": 1}
    if "path" in table[0]:
        head, *table = table
        columns = {name: head.index(name) for name in ListedImage._fields if name in head}
    at = columns["path"]
    short = next((row for row in table if len(row) <= at), None)
    if short is not None:
        raise ValueError(f"{path}: the line {short} has no column {at + 1}, where paths are")
    return [
        ListedImage(
            **{name: row[place].strip() for name, place in columns.items() if place < len(row)}
        )
        for row in table
    ]


def _parquet_rows(path: str) -> list[ListedImage]:
    parquet = require("pyarrow.parquet", extra="table")
    try:
        names = parquet.read_schema(path).names
        wanted = [name for name in ListedImage._fields if name in names]
        table = parquet.read_table(path, columns=wanted).to_pydict()
    except (OSError, ValueError) as error:  # what pyarrow's errors of damaged files are
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} cannot be read as Parquet ({reason}): write it again") from error
    if "path" not in wanted:
        raise ValueError(f"{path} has the columns {', '.join(names)}: it needs one named path")
    columns = [[None if value is None else str(value) for value in table[name]] for name in wanted]
    if not columns[0]:
        raise ValueError(f"{path} lists no images: give it a row an image")
    if None in columns[0]:
        raise ValueError(f"{path}: row {columns[0].index(None)} has no path")
    return [
        ListedImage(**dict(zip(wanted, values, strict=True)))
        for values in zip(*columns, strict=True)
    ]


def _cut(line: str) -> ListedImage:
    for mark in ("\t", ","):
        path, found, label = line.rpartition(mark)
        if found and os.path.splitext(path.rstrip())[1].lower() in SUFFIXES:  # not "a,b.jpg"
            return ListedImage(path.strip(), label.strip())
    return ListedImage(line.strip())
