"""Images in tar shards (WebDataset), on a disk or on a server."""

from __future__ import annotations

import posixpath
import re
from dataclasses import KW_ONLY, dataclass, replace
from functools import lru_cache
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from unlabeled.data.encoded import LOOK_SAMPLES, EncodedSamples, EncodedStore
from unlabeled.data.fetch import ShardCache
from unlabeled.data.folder import CACHE_BYTES, check_fields
from unlabeled.data.images import ImageSource, cache_folder, log, no_split
from unlabeled.data.order import permutation, spread, windowed
from unlabeled.data.shardindex import list_shards
from unlabeled.data.shardlist import (
    Listing,
    base_name,
    find_shards,
    is_link,
    shown,
    split_of,
)
from unlabeled.data.shardrecords import SPARE, ShardRecords, starts_of

DISK_BYTES = 20 * 2**30
LOOK_LOCAL, LOOK_REMOTE = 16, 2
"""From so many shards statistics are measured."""


@dataclass(frozen=True)
class Shards(ImageSource):
    """Images in .tar files by WebDataset's convention, read by place and never unpacked.

    Members that differ after the first dot of their name are one sample: 0001.jpg is the image,
    0001.cls its class (a number or a name), .json and .txt are passed over. An epoch reads the
    shards one after the other in random order, shuffled over a window of several
    (`unlabeled.data.order.windowed`).

    On a server (http, https) the shards' sizes come from index.json beside them, which
    `unlabeled data index` writes; shards are fetched whole, the next one ahead of its use, into
    the cache folder, where those used longest ago make room.

    Splits: shards named after train and test (or val), as train-000.tar or train/000.tar, are
    splits. Else every labeled sample with crc32("SHARD/NUMBER") % 5 == 0 is "test", the others
    are "train"; without labels all are "train". "all" is everything. Images that cannot be read
    are named once and replaced by the next one; more than 1 % of them stop the run.

    Args:
        pattern: "train-{000..099}.tar", a folder, "*.tar", an URL with or without braces, or a
            .txt of paths and URLs.
        channels: convert all images to so many; by default 1 if all are gray, else 3, or N.
        image_size: recommended side; by default the median shorter side within 32 .. 96.
        member: ending of the image's member where samples have several, such as "left.png".
        labels: whether .cls members are read.
        window: shards that are mixed at a time.
        cache_bytes: memory for decoded images.
        disk_bytes: size of the cache folder for shards from a server.

    Raises:
        FileNotFoundError: a shard, folder or index that is not there.
        ValueError: a damaged shard, no images, or labels on some samples only, at the first use.
        OSError: a server that cannot be reached, at the first use.
    """

    pattern: str
    _: KW_ONLY
    channels: int | None = None
    image_size: int | None = None
    member: str | None = None
    labels: bool = True
    window: int = 8
    cache_bytes: int = CACHE_BYTES
    disk_bytes: int = DISK_BYTES

    def __post_init__(self) -> None:
        check_fields(self.channels, self.image_size)
        if self.window < 1:
            raise ValueError(f"window is {self.window}: mix 1 shard or more")
        if not is_link(self.pattern):
            find_shards(self.pattern)

    @property
    def name(self) -> str:
        """The shards' name without their numbers."""
        stem = re.sub(r"\.(tar|txt|json)$", "", base_name(self.pattern.rstrip("/")))
        plain = re.sub(r"\{[^{}]*\}|[*?]|^index$", "", stem).strip("-_.")
        return plain or base_name(posixpath.dirname(self.pattern)) or "shards"

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The labels, sorted; None where there are none, or the index of a server has none."""
        return _listing(self).classes

    def size(self, split: str) -> int:
        """Return the number of samples in a split; no shard is read for it."""
        return len(self._places(split))

    def side(self, images: Tensor | list[Tensor]) -> int:
        """Return ``image_size`` or what suits the images."""
        return _store(self).image_size

    def at(self, side: int) -> Shards:
        """Return the shards with images decoded for an encoder that takes ``side`` pixels."""
        return replace(self, image_size=side)

    def split(self, name: str) -> EncodedSamples:
        """Return "train", "all" or, where there is one, "test" or "val"."""
        return EncodedSamples(_store(self), self._places(name))

    def epoch_order(self, *, seed: int, epoch: int) -> Tensor:
        """[N] int64: "train" shard by shard in random order, shuffled over a window."""
        listing, places = _listing(self), self._places("train")
        sizes = np.diff(np.searchsorted(places, starts_of(listing)))
        shards = np.flatnonzero(sizes)
        order = permutation(len(shards), seed=seed, epoch=epoch)
        if len(shards) > self.window:  # as `windowed` begins
            _records(_fields(self)).expect(shards[order.numpy()].tolist())
        kept = sizes[shards].tolist()
        return windowed(kept, window=self.window, seed=seed, epoch=epoch)

    def some(self, most: int) -> list[int]:
        """Return places from a few shards: 16 over all, or the first two of a server."""
        listing, places = _listing(self), self._places("train")
        return _some(places, listing, most)

    def _places(self, split: str) -> NDArray[Any]:
        splits, without_test = _splits(_fields(self))
        if split not in splits:
            raise no_split(
                shown(self.pattern), split, splits, without_test if split == "test" else ""
            )
        if split == "train" and len(splits[split]) < 2:
            raise ValueError(f"{shown(self.pattern)} has one image: learning needs two or more")
        return splits[split]


def _some(places: NDArray[Any], listing: Listing, most: int) -> list[int]:
    ends = np.searchsorted(places, starts_of(listing))
    filled = np.flatnonzero(np.diff(ends)).tolist()
    if any(shard.remote for shard in listing.shards):
        chosen = filled[:LOOK_REMOTE]
    else:
        chosen = [filled[at] for at in spread(len(filled), LOOK_LOCAL)]
    pool = np.concatenate([np.arange(ends[shard], ends[shard + 1]) for shard in chosen])
    return [int(pool[at]) for at in spread(len(pool), most)]


# What is shared by all sizes of a source ---------------------------------------------------------


def _fields(source: Shards) -> Shards:
    """Return the source without what only the decoding needs, as a key."""
    return replace(source, channels=None, image_size=None, cache_bytes=0)


def _listing(source: Shards) -> Listing:
    return _read_listing(source.pattern, source.member, source.labels)


@lru_cache(maxsize=4)
def _read_listing(pattern: str, member: str | None, labels: bool) -> Listing:
    return list_shards(pattern, member=member, labels=labels)


@lru_cache(maxsize=4)
def _splits(source: Shards) -> tuple[dict[str, NDArray[Any]], str]:
    listing = _listing(source)
    starts = starts_of(listing)
    everything = np.arange(starts[-1])
    of = [split_of(shard.url) for shard in listing.shards]
    if "train" in of and len({split for split in of if split is not None}) > 1:
        left = [shard.url for shard, split in zip(listing.shards, of, strict=True) if not split]
        if left:
            log.warning(
                "%s has splits: %d other shards are left out, such as %s",
                shown(source.pattern), len(left), shown(left[0]),
            )  # fmt: skip
        if "test" not in of:
            of = ["test" if split == "val" else split for split in of]
        owner = np.repeat(np.array([split or "" for split in of]), np.diff(starts))
        names: list[str] = [name for name in ("train", "val", "test") if name in of]
        cut: dict[str, NDArray[Any]] = {name: np.flatnonzero(owner == name) for name in names}
        return {**cut, "all": np.flatnonzero(owner != "")}, ""
    if listing.classes is None:
        return {"train": everything, "all": everything}, "no labels, so nothing is set apart"
    held = np.fromiter(
        (
            crc32(f"{base_name(shard.url)}/{number}".encode()) % 5 == 0
            for shard in listing.shards
            for number in range(shard.samples)
        ),
        dtype=np.bool_,
        count=len(everything),
    )
    if not held.any() or held.all():
        return {"train": everything, "all": everything}, "too few images to set any apart"
    train, test = np.flatnonzero(~held), np.flatnonzero(held)
    return {"train": train, "test": test, "all": everything}, ""


@lru_cache(maxsize=3)  # as it is, for training's crops, and for evaluation's
def _store(source: Shards) -> EncodedStore:
    listing = _listing(source)
    places = source._places("train")
    look = [int(places[at]) for at in _some(places, listing, LOOK_SAMPLES)]
    return EncodedStore(
        shown(source.pattern),
        records=_records(_fields(source)),
        look=look,
        channels=source.channels,
        image_size=source.image_size,
        cache_bytes=source.cache_bytes,
    )


@lru_cache(maxsize=4)
def _records(source: Shards) -> ShardRecords:
    listing = _listing(source)
    cache = None
    if any(shard.remote for shard in listing.shards):
        together = min(source.window + 1 + SPARE, len(listing.shards))
        cache = ShardCache(
            cache_folder("shards") / "fetched", limit=source.disk_bytes, together=together
        )
    return ShardRecords(listing, member=source.member, window=source.window, cache=cache)
