"""From a folder of images to shards: the same files, in random order, with their classes."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from unlabeled.data.files import FileSamples
from unlabeled.data.order import permutation
from unlabeled.data.shardindex import INDEX_NAMES, file_sha256, save_index
from unlabeled.data.shardlist import Listing, Shard
from unlabeled.data.source import DataSource

PLAN = "plan.json"
"""What a folder of shards is made of: with it a stopped run is continued."""


def write_shards(
    source: DataSource,
    out: str | Path,
    *,
    shard_size: int = 2000,
    say: Callable[[str], None] | None = None,
) -> Listing:
    """Write a source of files as shards train-000000.tar, test-000000.tar ... and index.json.

    Files are copied as they are, in a random order that is always the same, so that any shard is
    a fair sample: 00000012.jpg, its class number in 00000012.cls (the names are in the index), its
    path in 00000012.json. The same files give the same bytes; each shard appears whole; a run
    that was stopped goes on.

    Args:
        source: a folder or a list of paths.
        out: an empty folder, or the one of the run to continue.
        shard_size: images a shard.
        say: told of each shard.

    Raises:
        ValueError: a source without files, or a folder that holds something else.
    """
    if shard_size < 1:
        raise ValueError(f"shard_size is {shard_size}: give the images of a shard, such as 2000")
    target, splits = Path(out), _splits(source)
    plans = {
        name: _plan(name, samples, shard_size) for name, samples in splits.items() if len(samples)
    }
    _claim(target, _mark(source, splits, shard_size))
    shards = []
    for name, places in plans.items():
        for file, part in places.items():
            path = target / file
            if not path.exists():
                _write(path, splits[name], part)
            shards.append(Shard(file, len(part), path.stat().st_size, file_sha256(path)))
            if say is not None:
                say(f"{path}: {len(part):,} images, {path.stat().st_size:,} bytes")
    listing = Listing(tuple(shards), source.classes, numbered=source.classes is not None)
    save_index(listing, target / INDEX_NAMES[0])
    return listing


def _splits(source: DataSource) -> dict[str, FileSamples]:
    found = {}
    for name in ("train", "val", "test"):
        try:
            samples = source.split(name)
        except ValueError:
            if name == "train":
                raise
            continue  # data need not have it
        if not isinstance(samples, FileSamples):
            raise ValueError(f"{source.name} has no image files: give a folder or a list of paths")
        found[name] = samples
    return found


def _plan(split: str, samples: FileSamples, shard_size: int) -> dict[str, list[int]]:
    """Return the shards' names and which of the split's places go into each."""
    order = permutation(len(samples), seed=0, epoch=0).tolist()
    return {
        f"{split}-{number:06d}.tar": order[at : at + shard_size]
        for number, at in enumerate(range(0, len(order), shard_size))
    }


def _mark(source: DataSource, splits: dict[str, FileSamples], shard_size: int) -> str:
    digest = sha256(f"1 {shard_size} {source.classes}".encode())
    for name, samples in splits.items():
        for place in range(len(samples)):
            path = samples.store.full_path(samples.places[place])
            status = os.stat(path)
            fact = f"{name} {path} {status.st_size} {status.st_mtime_ns}\n"
            digest.update(fact.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _claim(target: Path, mark: str) -> None:
    """Make the folder, or find that it was begun from the same files."""
    target.mkdir(parents=True, exist_ok=True)
    plan = target / PLAN
    if plan.exists():
        if json.loads(plan.read_text(encoding="utf-8")).get("mark") != mark:
            raise ValueError(
                f"{target} holds shards of other files or another size: choose another --out"
            )
        return
    if any(target.iterdir()):
        raise ValueError(f"{target} is not empty and holds no shards of ours: choose another --out")
    plan.write_text(json.dumps({"mark": mark}) + "\n", encoding="utf-8")


def _write(path: Path, samples: FileSamples, places: Sequence[int]) -> None:
    part = path.with_name(f"{path.name}.part")
    root = samples.store.root
    try:
        with part.open("wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for number, place in enumerate(places):
                    source = samples.store.full_path(samples.places[place])
                    key = f"{number:08d}"
                    content = Path(source).read_bytes()
                    _add(tar, f"{key}{os.path.splitext(source)[1].lower()}", content)
                    if samples.label is not None:
                        _add(tar, f"{key}.cls", str(int(samples.label[place])).encode())
                    facts: dict[str, Any] = {"path": os.path.relpath(source, root)}
                    _add(tar, f"{key}.json", json.dumps(facts).encode())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)  # no owner, no time: the same files give the same bytes
    info.size, info.mode = len(content), 0o444
    tar.addfile(info, io.BytesIO(content))
