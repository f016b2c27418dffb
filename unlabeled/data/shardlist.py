"""Which shards there are and what is known of them before they are read: names, sizes, classes."""

from __future__ import annotations

import glob
import os
import posixpath
import re
import urllib.parse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from unlabeled.data.decode import SUFFIXES
from unlabeled.data.folder import TEST, TRAIN, VAL

INDEX_NAMES = ("index.json", "sizes.json")
KIND = "wids-shard-index-v1"
MOST_SHARDS = 1_000_000
LINK = ("http://", "https://")


class Shard(NamedTuple):
    """A tar file of samples: a path or URL, its samples, and of its bytes what an index says."""

    url: str
    samples: int
    length: int | None = None
    sha256: str | None = None

    @property
    def remote(self) -> bool:
        """Whether it has to be fetched."""
        return is_link(self.url)


class Listing(NamedTuple):
    """The shards of a source; class names where every sample has a label.

    ``numbered``: a label is the place of its class among ``classes``, not its name.
    """

    shards: tuple[Shard, ...]
    classes: tuple[str, ...] | None
    numbered: bool = False


def is_link(text: str) -> bool:
    """Whether a text is an http or https URL."""
    return text.startswith(LINK)


def shown(url: str) -> str:
    """Return a URL for messages: without its query, which may hold a key, and without a user."""
    if not is_link(url):
        return url
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def base_name(url: str) -> str:
    """Return the file name of a path or URL."""
    return posixpath.basename(urllib.parse.urlsplit(url).path if is_link(url) else url)


def expand(pattern: str) -> list[str]:
    """Expand braces as a shell does: "a-{000..002}.tar", "{train,val}.tar".

    Raises:
        ValueError: braces that are neither a range nor a list.
    """
    return list(dict.fromkeys(_expand(pattern)))


def _expand(pattern: str) -> Iterable[str]:
    found = re.search(r"\{([^{}]*)\}", pattern)
    if found is None:
        if "{" in pattern or "}" in pattern:
            raise ValueError(f"{pattern}: a brace has no partner, write name-{{000..099}}.tar")
        return [pattern]
    head, tail = pattern[: found.start()], pattern[found.end() :]
    return [
        whole for item in _items(found.group(1), pattern) for whole in _expand(head + item + tail)
    ]


def _items(body: str, pattern: str) -> Sequence[str]:
    ends = re.fullmatch(r"(\d+)\.\.(\d+)", body)
    if ends is None:
        if "," not in body:
            raise ValueError(f"{pattern}: {{{body}}} is no range {{000..099}} and no list {{a,b}}")
        return body.split(",")
    first, last = int(ends.group(1)), int(ends.group(2))
    if abs(last - first) >= MOST_SHARDS:
        raise ValueError(f"{pattern} names more than {MOST_SHARDS:,} shards")
    padded = any(len(end) > 1 and end.startswith("0") for end in ends.groups())
    width = max(map(len, ends.groups())) if padded else 0
    step = 1 if last >= first else -1
    return [f"{number:0{width}d}" for number in range(first, last + step, step)]


def find_shards(text: str) -> list[str]:
    """Return paths or URLs, sorted within a folder, that a pattern, folder or list names.

    Raises:
        FileNotFoundError: a local shard that is not there, or a folder without any.
        ValueError: a list that names none.
    """
    if is_link(text):
        return expand(text)
    path = os.path.expanduser(text)
    if os.path.isdir(path):
        found = sorted(str(each) for each in Path(path).rglob("*.tar"))
        if not found:
            raise FileNotFoundError(f"{text} holds no .tar files: give the folder of the shards")
        return found
    if path.endswith(".txt"):
        return _listed(path)
    if "*" in path or "?" in path:
        found = sorted(glob.glob(path))
        if not found:
            raise FileNotFoundError(f"no file matches {text}")
        return found
    return _existing(expand(path))


def _existing(paths: list[str]) -> list[str]:
    missing = [path for path in paths if not is_link(path) and not os.path.isfile(path)]
    if missing:
        raise FileNotFoundError(
            f"{missing[0]} does not exist ({len(missing)} of {len(paths)} shards are missing): "
            "give the shards that are there, or copy it again"
        )
    return paths


def _listed(path: str) -> list[str]:
    lines = list_lines(path)
    if not lines:
        raise ValueError(f"{path} lists no shards: write one path or URL a line")
    below = os.path.dirname(path)
    return _existing([
        each
        for line in lines
        for each in expand(line if is_link(line) else os.path.join(below, line))
    ])  # fmt: skip


def list_lines(path: str) -> list[str]:
    """Return the lines of a text file that say something."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        lines = [line.strip() for line in file]
    return [line for line in lines if line and not line.startswith("#")]


def split_of(url: str) -> str | None:
    """Return "train", "val" or "test" where a shard's name or folder says so."""
    path = urllib.parse.urlsplit(url).path if is_link(url) else url
    # of the file's name any word, of the folder's the whole
    folder = base_name(posixpath.dirname(path)).lower()
    for words in (re.findall(r"[a-z]+", base_name(path).lower()), [folder]):
        for split, spelled in (("train", TRAIN), ("val", VAL), ("test", TEST)):
            if any(word in spelled for word in words):
                return split
    return None


def is_shard_list(path: str) -> bool:
    """Whether a text file lists shards: its first line is a .tar."""
    first = next(iter(list_lines(path)), "")
    return (urllib.parse.urlsplit(first).path if is_link(first) else first).endswith(".tar")


def is_shard_folder(path: str) -> bool:
    """Whether a folder holds shards rather than images that have a .tar file beside them."""
    folders, endings = _look_into(path)
    named = [folder for folder in folders if folder.lower() in (*TRAIN, *VAL, *TEST)]
    if len(named) < len(folders) or endings & SUFFIXES:
        return False
    inside = [_look_into(os.path.join(path, folder)) for folder in named]
    if any(below or found & SUFFIXES for below, found in inside):
        return False
    return ".tar" in endings or any(".tar" in found for _, found in inside)


def _look_into(path: str) -> tuple[list[str], set[str]]:
    folders, endings = [], set()
    with os.scandir(path) as inside:
        for entry in inside:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(entry.name)
            else:
                endings.add(os.path.splitext(entry.name)[1].lower())
    return folders, endings
