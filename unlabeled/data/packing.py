"""Packing: image files are decoded once into a pack (see `unlabeled.data.packed`)."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlabeled.data.decode import (
    UNREADABLE,
    Target,
    middle,
    read_header,
    read_image,
    reason,
    shrunk,
)
from unlabeled.data.files import FileStore
from unlabeled.data.folder import ImageFolder, Opened
from unlabeled.data.names import Names
from unlabeled.data.order import spread
from unlabeled.data.packed import (
    FORMAT,
    INDEX,
    MARK,
    PATHS,
    PIXELS,
    SPLITS,
    PackedImages,
    facts_text,
    is_pack,
)
from unlabeled.data.packwriter import JOURNAL, PLAN, PackWriter, locked, sync, sync_folder, write
from unlabeled.data.paths import PathList

WINDOW = 64
"""Files that are decoded while as many are written."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SIZE_SAMPLE = 1000
Progress = Callable[[int, int], None]


def pack(
    source: ImageFolder | PathList,
    out: str | Path,
    *,
    size: int = 256,
    eight_bit: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PackedImages:
    """Decode all images of a source once, into a pack that is read without decoding.

    Images get the shorter side ``size`` (never enlarged; of images longer than 8:1 the center
    counts) and the source's number of channels: the pixels that the source itself gives at that
    size. Splits, labels and classes are the source's. Files that cannot be read are named and left
    out; more than 1 % (and more than ten) of them stop the run.

    The pack is written to ``OUT.part`` and renamed when it is whole. A killed run goes on from
    there with the same call: what was packed of files that have changed since is packed again.

    Args:
        source: a folder of images or a list of paths.
        out: the pack to make.
        size: shorter side of the packed images in pixels.
        eight_bit: accept that a source of mostly 16-bit or float images is rounded to 8 bits.
        overwrite: replace the pack that ``out`` is, once the new one is whole.
        progress: called with the files done and the files in all.

    Raises:
        ValueError: ``out`` exists, the source is deep, or it has too many unreadable files.
        OSError: the disk is full.
    """
    if size < 1:
        raise ValueError(f"size is {size}: give the shorter side in pixels")
    out = Path(out)
    if out.exists() and not (overwrite and is_pack(out)):
        remedy = "or --overwrite" if is_pack(out) else "it is no pack, so it is not overwritten"
        raise ValueError(f"{out} exists: choose another --out, {remedy}")
    opened = source.files()
    store = opened.store
    if store.target.deep and not eight_bit:
        raise ValueError(
            f"{source.path}: most images have more than 8 bits a channel, a pack has 8: use the "
            f"files as they are, or --eight-bit to round (values / {store.target.peak:g} * 255 of "
            "float files, / 65535 * 255 of 16-bit ones)"
        )
    target = Target(channels=store.target.channels, side=size, peak=store.target.peak)
    part = out.with_name(f"{out.name}.part")
    with locked(part):
        plan = {
            "format": FORMAT,
            "source": os.path.abspath(source.path),
            "target": repr(target),
            "decoders": {name: _version(name) for name in ("pillow", "simplejpeg", "torch")},
        }
        try:
            writer = PackWriter(part, plan, store)
            _room(out, writer, store, target)
            _decode_all(writer, store, target, progress)
            _finish(writer, opened, part, plan, size=size)
            _rename(part, out)
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise OSError(
                f"no room to write {part} ({os.strerror(error.errno)}): free some and repeat the "
                "command, which goes on where it stopped, or delete it"
            ) from error
    return PackedImages(str(out))


# Decoding ----------------------------------------------------------------------------------------


def _decode_all(
    writer: PackWriter, store: FileStore, target: Target, progress: Progress | None
) -> None:
    def decode(place: int) -> tuple[os.stat_result, NDArray[np.uint8] | str]:
        path = store.full_path(place)
        status = os.stat_result((0,) * 10)
        try:
            status = os.stat(path)  # before reading: a file that changes meanwhile is read again
            return status, read_image(path, target).numpy()
        except UNREADABLE as error:
            return status, reason(error, path)

    total = len(store.paths)
    windows = [range(at, min(at + WINDOW, total)) for at in range(writer.done, total, WINDOW)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        ahead = [pool.submit(decode, place) for place in (windows[0] if windows else ())]
        try:
            for number, window in enumerate(windows):
                futures, following = ahead, windows[number + 1 : number + 2]
                ahead = [pool.submit(decode, place) for each in following for place in each]
                for place, future in zip(window, futures, strict=True):
                    status, image = future.result()
                    path = store.paths[place]
                    if isinstance(image, str):
                        store.faults.add(path, image, then="it is left out")
                    writer.add(path, status, image)
                if progress is not None:
                    progress(window.stop, total)
            writer.commit()
        finally:
            pool.shutdown(cancel_futures=True)
            writer.close()


def _room(out: Path, writer: PackWriter, store: FileStore, target: Target) -> None:
    """Refuse at the start what cannot fit, rather than after hours."""
    places = spread(len(store.paths), SIZE_SAMPLE)
    total = count = 0
    for place in places:
        try:
            header = read_header(store.full_path(place))
        except UNREADABLE:
            continue
        height, width = shrunk(*middle(header.height, header.width)[2:], target.side)
        total, count = total + target.channels * height * width, count + 1
    needed = total / max(count, 1) * len(store.paths) - writer.end
    free = shutil.disk_usage(out.parent).free
    if needed > free:
        writer.close()
        raise OSError(
            f"{out} needs about {needed / 1e9:,.1f} GB more, {free / 1e9:,.1f} GB are free: make "
            "room, choose another --out, or a smaller --size"
        )


# Finishing ---------------------------------------------------------------------------------------


def _finish(
    writer: PackWriter, opened: Opened, part: Path, plan: dict[str, Any], *, size: int
) -> None:
    store, rows = opened.store, writer.rows
    for name, samples in opened.splits.items():
        if name in SPLITS:
            rows["split"][samples.places] = SPLITS.index(name)
    label = opened.splits["all"].label
    if label is not None:
        rows["label"] = label.numpy()
    kept = np.flatnonzero(rows["height"])
    if not len(kept):
        raise ValueError(f"{plan['source']}: no image can be read, so there is nothing to pack")
    names, rows = Names.of(store.paths[place] for place in kept.tolist()), rows[kept]
    rows["path_end"] = names.ends
    with (part / INDEX).open("wb") as file:
        np.save(file, rows)
        sync(file)
    write(part / PATHS, names.blob.tobytes())
    found = set(rows["split"].tolist())
    facts = {
        "format": FORMAT,
        "images": len(rows),
        "channels": store.target.channels,
        "size": size,
        "image_size": min(store.image_size, size),
        "classes": None if opened.classes is None else list(opened.classes),
        "splits": [name for place, name in enumerate(SPLITS) if place in found],
        "unreadable": dict(store.faults.found),
        "source": plan["source"],
        "decoders": plan["decoders"],
        "files": {
            PIXELS: {"bytes": writer.end},
            INDEX: _facts(part / INDEX),
            PATHS: _facts(part / PATHS),
        },
    }
    write(part / MARK, facts_text(facts).encode())
    sync_folder(part)


def _rename(part: Path, out: Path) -> None:
    """Put the whole pack in its place; at any moment there is the old one, the new one, or both."""
    old = out.with_name(f"{out.name}.old")
    if out.exists():
        if is_pack(old):
            shutil.rmtree(old)
        out.rename(old)
    part.rename(out)
    sync_folder(out.parent)
    if is_pack(old):
        shutil.rmtree(old)
    for name in (JOURNAL, PLAN):
        (out / name).unlink(missing_ok=True)


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
