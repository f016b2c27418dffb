"""What is known of shards before they are read: samples, bytes, classes; index.json beside them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

import numpy as np

from unlabeled.data import fetch
from unlabeled.data.images import log
from unlabeled.data.shardlist import (
    Listing,
    Shard,
    base_name,
    find_shards,
    is_link,
    shown,
)
from unlabeled.data.tar import contents

INDEX_NAMES = ("index.json", "sizes.json")
KIND = "wids-shard-index-v1"
NUMBERED = "number"
"""What an index says of .cls members that hold the place of a class, as other readers expect."""
THREADS = 8


def list_shards(pattern: str, *, member: str | None, labels: bool) -> Listing:
    """Return the shards that a pattern names; of those on a server what their index says.

    Raises:
        FileNotFoundError: a shard or index that is not there.
        ValueError: damaged shards, no images, labels on some samples only, or a wrong index.
        OSError: a server that cannot be reached.
    """
    if is_link(pattern) and urlsplit(pattern).path.endswith(".json"):
        found = parse_index(fetch.read_text(pattern), source=pattern)
        shards = [shard._replace(url=urljoin(pattern, shard.url)) for shard in found.shards]
        return _without_labels(found._replace(shards=tuple(shards)), labels)
    urls = find_shards(pattern)
    if not any(is_link(url) for url in urls):
        return _local(urls, member=member, labels=labels)
    if not all(is_link(url) for url in urls):
        raise ValueError(f"{pattern} mixes paths and URLs: give one or the other")
    folders = {urljoin(url, ".") for url in urls}
    indexes = {folder: _remote_index(folder) for folder in folders}
    known = {folder: entries(listing) for folder, listing in indexes.items()}
    remote = []
    for url in urls:
        entry = known[urljoin(url, ".")].get(base_name(url))
        if entry is None:
            raise ValueError(
                f"{shown(url)} is not in the index beside it: write the index again with "
                "`unlabeled data index`"
            )
        remote.append(entry._replace(url=url))
    return _without_labels(_joined(remote, indexes.values()), labels)


def _joined(shards: Sequence[Shard], indexes: Iterable[Listing]) -> Listing:
    """Return a listing with the classes on which all indexes agree."""
    classes = {(listing.classes, listing.numbered) for listing in indexes}
    return Listing(tuple(shards), *(classes.pop() if len(classes) == 1 else (None, False)))


def _without_labels(listing: Listing, labels: bool) -> Listing:
    return listing if labels else listing._replace(classes=None, numbered=False)


def _remote_index(folder: str) -> Listing:
    for name in INDEX_NAMES:
        for place in (urljoin(folder, name), urljoin(folder, f"../{name}")):
            try:
                return parse_index(fetch.read_text(place), source=place)
            except fetch.NotThere:
                continue
    raise FileNotFoundError(
        f"{shown(urljoin(folder, INDEX_NAMES[0]))} is not there, and without it the samples of "
        "each shard are not known: run `unlabeled data index FOLDER` where the shards lie and put "
        "its index.json beside them"
    )


# On a disk ---------------------------------------------------------------------------------------


class _Summary(NamedTuple):
    """What is kept of a shard that was read through; ``first`` is the first without a label."""

    shard: Shard
    labels: frozenset[bytes]
    unlabeled: int
    first: str


def _local(paths: Sequence[str], *, member: str | None, labels: bool) -> Listing:
    """Return sizes and classes by the index beside the shards where it is of these very files.

    Without one every shard is read through once; what was found is kept in our cache folder.
    """
    known = _local_index(paths) if member is None else None
    if known is not None:
        return _without_labels(known, labels)
    return _scanned(paths, member=member, labels=labels)


def _scanned(paths: Sequence[str], *, member: str | None, labels: bool) -> Listing:
    with ThreadPoolExecutor(min(THREADS, len(paths))) as pool:
        found = list(pool.map(lambda path: _summary(path, member), paths))
    if not any(each.shard.samples for each in found):
        raise ValueError(
            f"{paths[0]}{' and the other shards hold' if len(paths) > 1 else ' holds'} no images: "
            "samples are members such as 0001.jpg, with their class in 0001.cls"
        )
    empty = [each.shard.url for each in found if not each.shard.samples]
    if empty:
        log.warning("%d shards hold no images, such as %s", len(empty), empty[0])
    shards = tuple(each.shard for each in found)
    values = set[bytes]().union(*(each.labels for each in found))
    if not (labels and values):
        return Listing(shards, None)
    without = [each for each in found if each.unlabeled]
    if without:
        others = sum(each.unlabeled for each in without) - 1
        raise ValueError(
            f"{without[0].shard.url}: {without[0].first} has no label (no .cls member), nor have "
            f"{others:,} others, while other samples have one: give one to each, or leave them "
            "unread with data.labels=false"
        )
    return Listing(shards, _classes(values))


def _summary(path: str, member: str | None) -> _Summary:
    found = contents(path, member=member)
    without = found.label == b""
    return _Summary(
        Shard(path, len(found.name), os.path.getsize(path)),
        frozenset(np.unique(found.label).tolist()) - {b""},
        int(without.sum()),
        found.name[without][0].decode(errors="replace") if without.any() else "",
    )


def _classes(values: Iterable[bytes]) -> tuple[str, ...] | None:
    texts = [value.decode("utf-8", "replace") for value in values]
    if len(texts) < 2:
        return None
    numbers = all(re.fullmatch(r"-?\d+", text) for text in texts)
    return tuple(sorted(texts, key=int) if numbers else sorted(texts))


def _local_index(paths: Sequence[str]) -> Listing | None:
    indexes: dict[str, Listing] = {}
    known: dict[str, dict[str, Shard]] = {}
    shards = []
    for path in paths:
        folder = os.path.dirname(os.path.abspath(path))
        if folder not in indexes:
            # the index of train/ and val/ together lies above them
            found = _index_in(folder) or _index_in(os.path.dirname(folder))
            if found is None:
                return None
            indexes[folder], known[folder] = found, entries(found)
        entry = known[folder].get(base_name(path))
        if entry is None or entry.length != os.path.getsize(path):
            return None
        shards.append(entry._replace(url=path))
    return _joined(shards, indexes.values())


def _index_in(folder: str) -> Listing | None:
    path = Path(folder, INDEX_NAMES[0])
    if not path.is_file():
        return None
    try:
        return parse_index(path.read_text(encoding="utf-8"), source=str(path))
    except (OSError, ValueError) as error:
        log.warning("%s: reading the shards instead", error)
        return None


# The file ----------------------------------------------------------------------------------------


def entries(listing: Listing) -> dict[str, Shard]:
    """Return shards by file name."""
    return {base_name(shard.url): shard for shard in listing.shards}


def parse_index(text: str, *, source: str) -> Listing:
    """Read an index: ours, WebDataset's ("shardlist" of "url" and "nsamples"), or {name: samples}.

    Raises:
        ValueError: another form.
    """
    try:
        value: Any = json.loads(text)
        whole = isinstance(value, dict) and "shardlist" in value
        rows = value["shardlist"] if whole else value
        if isinstance(rows, dict):
            rows = [{"url": name, "nsamples": count} for name, count in rows.items()]
        shards = tuple(_entry(row) for row in rows)
        classes = value.get("classes") if whole else None
        names = None if classes is None else tuple(str(name) for name in classes)
        numbered = whole and value.get("cls") == NUMBERED
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{shown(source)} is no index of shards ({type(error).__name__}: {error}): write it "
            "with `unlabeled data index`"
        ) from error
    return Listing(shards, names, numbered)


def _entry(row: Any) -> Shard:
    length, count = row.get("filesize"), int(row["nsamples"])
    if count < 0:
        raise ValueError(f"{row['url']} has {count} samples")
    return Shard(str(row["url"]), count, None if length is None else int(length), row.get("sha256"))


def write_index(text: str, *, out: str | None = None) -> tuple[Path, Listing]:
    """Read local shards through and write index.json: samples, bytes and sha256 of each, classes.

    Raises:
        ValueError: shards that cannot be read, that have one name, or that are on a server.
    """
    paths = find_shards(text)
    if any(is_link(path) for path in paths):
        raise ValueError(
            f"{shown(text)}: index shards where they lie on a disk, then put index.json beside them"
        )
    folder = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    target = Path(out) if out is not None else Path(folder) / INDEX_NAMES[0]
    files = [base_name(path) for path in paths]
    if len(set(files)) < len(files):
        twice = next(file for file in files if files.count(file) > 1)
        raise ValueError(f"{text}: two shards are called {twice}: index their folders one by one")
    listing = _scanned(paths, member=None, labels=True)
    with ThreadPoolExecutor(THREADS) as pool:
        sums = list(pool.map(file_sha256, paths))
    shards = tuple(
        shard._replace(url=os.path.relpath(shard.url, folder), sha256=digest)
        for shard, digest in zip(listing.shards, sums, strict=True)
    )
    whole = listing._replace(shards=shards)
    known = _index_in(folder)
    if known is not None and known.numbered:
        names = known.classes or ()  # those that `data shard` wrote are in no shard
        if set(listing.classes or ()) <= set(map(str, range(len(names)))):
            whole = whole._replace(classes=names, numbered=True)
    save_index(whole, target)
    return target, whole


def save_index(listing: Listing, target: Path) -> None:
    """Write an index.json in one step."""
    rows = [
        {"url": url, "nsamples": samples, "filesize": length, "sha256": digest}
        for url, samples, length, digest in listing.shards
    ]
    facts = {
        "__kind__": KIND,
        "wids_version": 1,
        "classes": None if listing.classes is None else list(listing.classes),
        "cls": NUMBERED if listing.numbered else "name",
        "shardlist": rows,
    }
    part = target.with_name(f"{target.name}.part{os.getpid()}")
    part.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    part.replace(target)


def file_sha256(path: str | Path) -> str:
    """Return the sha256 of a file's content."""
    digest = sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
