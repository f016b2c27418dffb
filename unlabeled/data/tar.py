"""What is in a tar file of samples, and where: read once, kept on the disk, never extracted."""

from __future__ import annotations

import os
import posixpath
import tarfile
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unlabeled.data.decode import SUFFIXES
from unlabeled.data.images import cache_folder, log

BLOCK = 512
LARGEST_IMAGE = 2**30
LARGEST_LABEL = 1024
VERSION = 1


class Contents(NamedTuple):
    """The samples of a shard, in its order: the image's member name, its bytes' place, its label.

    ``label`` is the text of the .cls member, empty where there is none.
    """

    name: NDArray[np.bytes_]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    label: NDArray[np.bytes_]


def contents(path: str, *, member: str | None = None) -> Contents:
    """Return what a shard holds, from our cache folder if size and time are those of the scan.

    Raises:
        ValueError: see `scan`.
    """
    status = os.stat(path)
    stamp = np.array([VERSION, status.st_size, status.st_mtime_ns])
    key = sha256(f"{os.path.abspath(path)}\n{member}".encode(errors="surrogateescape")).hexdigest()
    kept = cache_folder("shards") / "index" / f"{key[:32]}.npz"
    try:
        with np.load(kept, allow_pickle=False) as arrays:
            if np.array_equal(arrays["stamp"], stamp):
                return Contents(*(arrays[field] for field in Contents._fields))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.debug("%s: %s", kept, error)
    found = scan(path, member=member)
    _keep(kept, stamp, found)
    return found


def _keep(path: Path, stamp: NDArray[np.int64], found: Contents) -> None:
    part = path.with_name(f"{path.stem}.part{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.savez(file, stamp=stamp, **found._asdict())
        part.replace(path)
    except OSError as error:  # it only costs another scan
        log.debug("%s: %s", path, error)


def scan(path: str, *, member: str | None = None) -> Contents:
    """Read the headers of a tar file by WebDataset's convention.

    Members with the same name up to the first dot of its last part are one sample. Its image is
    the member with an image's ending (of several the one that ends right after that dot, then the
    first; or the one that ``member`` names, such as "left.png"), its label the .cls member. Other
    members, hidden ones, links and folders are passed over.

    Raises:
        ValueError: compressed, cut short, damaged, two members of one name, or a member of an
            absurd size; the message names the shard.
    """
    samples: dict[str, tuple[bool, str, int, int]] = {}
    labels: dict[str, bytes] = {}
    seen: set[str] = set()
    whole, end = os.path.getsize(path), 0
    try:
        with tarfile.open(path, "r:") as tar:
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                end = info.offset_data
                if not info.isreg() or info.issparse():
                    continue
                end += -(-info.size // BLOCK) * BLOCK
                if end > whole:
                    raise _damaged(path, f"it is cut short in {info.name}")
                key, ending = split_name(info.name)
                if not ending:
                    continue
                if info.name in seen:
                    raise ValueError(
                        f"{path} holds {info.name} twice: give each sample a name of its own"
                    )
                seen.add(info.name)
                if ending == "cls":
                    labels[key] = _label(tar, info, path)
                elif _is_image(ending, member):
                    if not 0 <= info.size <= LARGEST_IMAGE:
                        raise ValueError(
                            f"{path}: {info.name} is {info.size:,} bytes, no image is: remove it"
                        )
                    short = member is not None or "." not in ending
                    if key not in samples or (short and not samples[key][0]):
                        samples[key] = (short, info.name, info.offset_data, info.size)
    except tarfile.TarError as error:
        raise _damaged(path, " ".join(str(error).split())) from error
    _check_end(path, end)
    if not samples and seen:
        log.warning(
            "%s holds no images among its %d members, such as %s", path, len(seen), min(seen)
        )
    return _arrays(samples, labels)


def split_name(name: str) -> tuple[str, str]:
    """Return key and ending of a member: "a/b.left.png" -> ("a/b", "left.png")."""
    folder, last = posixpath.split(name)
    stem, _, ending = last.partition(".")
    if not stem:  # a hidden file
        return name, ""
    return posixpath.join(folder, stem), ending.lower()


def _is_image(ending: str, member: str | None) -> bool:
    if member is not None:
        return ending == member.lower()
    return f".{ending.rpartition('.')[2]}" in SUFFIXES


def _label(tar: tarfile.TarFile, info: tarfile.TarInfo, path: str) -> bytes:
    if info.size > LARGEST_LABEL:
        raise ValueError(f"{path}: {info.name} is {info.size:,} bytes, no label is: write a name")
    file = tar.extractfile(info)  # a view of the bytes: nothing is extracted
    return b"" if file is None else file.read().strip()


def _check_end(path: str, end: int) -> None:
    """Demand zeros after the last member: tarfile takes what is cut there for whole."""
    with open(path, "rb") as file:
        file.seek(end)
        if file.read(BLOCK) != bytes(BLOCK):
            raise _damaged(path, f"its end mark is missing at byte {end:,}")


def _damaged(path: str, why: str) -> ValueError:
    with open(path, "rb") as file:
        head = file.read(4)
    if not head:
        return ValueError(f"{path} is an empty file: write or copy it again")
    if head[:2] == b"\x1f\x8b" or head in (b"\xfd7zX", b"\x28\xb5\x2f\xfd") or head[:3] == b"BZh":
        return ValueError(
            f"{path} is compressed: unpack it to a plain .tar, in which samples have a place"
        )
    return ValueError(f"{path} is a damaged tar file ({why}): write or copy it again")


def _arrays(samples: dict[str, tuple[bool, str, int, int]], labels: dict[str, bytes]) -> Contents:
    names = [name.encode("utf-8", "surrogateescape") for _, name, _, _ in samples.values()]
    return Contents(
        name=np.array(names, dtype=np.bytes_),
        offset=np.array([offset for _, _, offset, _ in samples.values()], dtype=np.int64),
        size=np.array([size for _, _, _, size in samples.values()], dtype=np.int64),
        label=np.array([labels.get(key, b"") for key in samples], dtype=np.bytes_),
    )
