"""An unfinished pack: its pixels, and a journal of what of them is safely on the disk."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from unlabeled.data.files import FileStore
from unlabeled.data.packed import MARK, PIXELS, ROW

log = logging.getLogger("unlabeled")

PLAN, JOURNAL = "unfinished.json", "journal.jsonl"
COMMIT_SECONDS = 5.0
"""At most so much work is lost when the process is killed."""


class PackWriter:
    """pixels.bin and its journal, which always says what of it is safely on the disk.

    A line of the journal is one file, in the source's order: [path, bytes, time of change, height,
    width, CRC-32] or, of a file that cannot be read, [path, bytes, time, reason].
    """

    def __init__(self, part: Path, plan: dict[str, Any], store: FileStore) -> None:
        self.rows: NDArray[Any] = np.zeros(len(store.paths), ROW)
        self.done = self.end = 0
        self.pixels, self.journal = (_open(part / name) for name in (PIXELS, JOURNAL))
        self._lines: list[str] = []
        self._committed = time.monotonic()
        (part / MARK).unlink(missing_ok=True)
        kept = 0
        if _read_json(part / PLAN) == plan:
            kept = self._resume(store, store.target.channels)
        write(part / PLAN, json.dumps(plan).encode())
        for file, size in ((self.journal, kept), (self.pixels, self.end)):
            file.truncate(size)
            file.seek(size)

    def add(self, path: str, status: os.stat_result, image: NDArray[np.uint8] | str) -> None:
        """Append what came of one file."""
        facts: list[Any] = [path, status.st_size, status.st_mtime_ns]
        if isinstance(image, str):
            facts.append(image)
        else:
            channels, height, width = image.shape
            crc = crc32(image.data)
            self.pixels.write(image)
            self._place(channels, height, width, crc)
            facts += [height, width, crc]
        self.done += 1
        self._lines.append(json.dumps(facts))
        if time.monotonic() - self._committed > COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Bring pixels to the disk, then the lines that speak of them."""
        for file, lines in ((self.pixels, []), (self.journal, self._lines)):
            file.write("".join(f"{line}\n" for line in lines).encode())
            file.flush()
            os.fsync(file.fileno())
        self._lines, self._committed = [], time.monotonic()

    def close(self) -> None:
        """Close both files; what was not committed is packed again."""
        self.pixels.close()
        self.journal.close()

    def _place(self, channels: int, height: int, width: int, crc: int) -> None:
        self.rows[self.done] = (self.end, height, width, -1, crc, 0, 0)
        self.end += channels * height * width

    def _resume(self, store: FileStore, channels: int) -> int:
        """Take over the lines of files that are as they were; return their bytes."""
        kept, whole, changed = 0, self.pixels.seek(0, os.SEEK_END), False
        self.journal.seek(0)
        for path, line in zip(store.paths, self.journal, strict=False):
            facts = _line(line)
            if facts is None:  # cut by the kill
                break
            if facts[:3] != [path, *_stamp(os.path.join(store.root, path))]:
                changed = True
                break
            if len(facts) == 4:
                store.faults.found[path] = facts[3]
            else:
                height, width, crc = facts[3:]
                if self.end + channels * height * width > whole:
                    break
                self._place(channels, height, width, crc)
            self.done += 1
            kept += len(line)
        if self.done or changed:
            log.info(
                "continues after %d of %d files%s", self.done, len(store.paths),
                "; what follows has changed since and is packed again" if changed else "",
            )  # fmt: skip
        return kept


@contextmanager
def locked(part: Path) -> Iterator[None]:
    """Make the folder and keep other processes from writing in it, until this one ends."""
    part.mkdir(parents=True, exist_ok=True)
    folder = os.open(part, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise ValueError(f"{part} is being written by another process: wait for it") from error
    finally:
        os.close(folder)


def _open(path: Path) -> Any:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")


def write(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        sync(file)


def sync(file: Any) -> None:
    """Wait until what was written is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _line(line: bytes) -> list[Any] | None:
    """Return the facts of a whole line; None of one that was cut."""
    try:
        facts = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return facts if isinstance(facts, list) else None


def _stamp(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns
