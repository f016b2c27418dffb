"""Reads samples of shards by their place, from a disk or from the cache of a server's shards."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unlabeled.data.encoded import Record
from unlabeled.data.fetch import ShardCache
from unlabeled.data.shardlist import Listing, shown
from unlabeled.data.tar import Contents, contents

SPARE = 3
"""Shards beside those of a window that fit into the cache folder: the next, and two for a look."""


def starts_of(listing: Listing) -> NDArray[np.int64]:
    """[S + 1]: the first place of each shard, and the number of samples."""
    return np.cumsum([0, *(shard.samples for shard in listing.shards)])


class ShardRecords:
    """The samples of all shards, numbered shard by shard; of few shards the contents are held.

    A batch opens its shards one after the other, so that one file is open at a time.
    """

    def __init__(
        self, listing: Listing, *, member: str | None, window: int, cache: ShardCache | None
    ) -> None:
        self.shards, self.member, self.cache = listing.shards, member, cache
        self.starts = starts_of(listing)
        self.most = window + 1 + SPARE
        classes = listing.classes or ()
        self._class = {
            str(place) if listing.numbered else name: place for place, name in enumerate(classes)
        }
        self._contents: OrderedDict[int, Contents] = OrderedDict()
        self._order: Sequence[int] = range(len(self.shards))
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self.starts[-1])

    def expect(self, order: Sequence[int]) -> None:
        """Say in which order shards will be asked for, so that the next is fetched ahead."""
        self._order = order

    def fetch(self, places: Sequence[int]) -> list[Record]:
        """Read the image files at ``places``."""
        owner = np.searchsorted(self.starts, np.asarray(places), side="right") - 1
        found: dict[int, Record] = {}
        for shard in dict.fromkeys(owner.tolist()):
            # forward in the file
            mine = sorted(place for place, of in zip(places, owner, strict=True) if of == shard)
            found.update(zip(mine, self._read(shard, mine), strict=True))
        if self.cache is not None:
            self._fetch_ahead(owner.tolist())
        return [found[place] for place in places]

    def _fetch_ahead(self, used: Sequence[int]) -> None:
        assert self.cache is not None
        order, now = self._order, set(used)
        newest = max((place for place, shard in enumerate(order) if shard in now), default=-1)
        if newest + 1 < len(order):
            self.cache.prefetch(self.shards[order[newest + 1]])

    def _read(self, number: int, places: Sequence[int]) -> list[Record]:
        shard = self.shards[number]
        file, held = self._open(number)
        try:
            records = []
            for place in places:
                at = place - int(self.starts[number])
                size = int(held.size[at])
                content = os.pread(file, size, int(held.offset[at]))
                if len(content) < size:
                    raise ValueError(
                        f"{shown(shard.url)} is shorter than it was: it changed while in use"
                    )
                name = held.name[at].decode("utf-8", "surrogateescape")
                where = f"{shown(shard.url)}/{name}"
                records.append(Record(where, content, self._label(held.label[at], where)))
            return records
        finally:
            os.close(file)

    def _open(self, number: int) -> tuple[int, Contents]:
        shard = self.shards[number]
        while True:
            path = shard.url if self.cache is None else str(self.cache.path(shard))
            try:
                file = os.open(path, os.O_RDONLY)
                break
            except FileNotFoundError as error:
                if self.cache is None:
                    raise FileNotFoundError(
                        f"{shard.url} was there and is gone: copy it back"
                    ) from error
                # another process made room just now: fetch it again
        try:
            return file, self._held(number, path)
        except BaseException:
            os.close(file)
            raise

    def _held(self, number: int, path: str) -> Contents:
        with self._lock:
            held = self._contents.get(number)
            if held is not None:
                self._contents.move_to_end(number)
                return held
        shard = self.shards[number]
        held = contents(path, member=self.member)
        if len(held.name) != shard.samples:
            raise ValueError(
                f"{shown(shard.url)} holds {len(held.name):,} images, its index says "
                f"{shard.samples:,}: write the index again with `unlabeled data index`"
            )
        with self._lock:
            self._contents[number] = held
            while len(self._contents) > self.most:
                self._contents.popitem(last=False)
        return held

    def _label(self, text: bytes, where: str) -> int | None:
        if not self._class:
            return None
        name = text.decode("utf-8", "replace")
        if name not in self._class:
            what = f"the label {name!r}, which the index does not know" if name else "no label"
            raise ValueError(
                f"{where} has {what}: write the index again with `unlabeled data index`, or leave "
                "labels unread with data.labels=false"
            )
        return self._class[name]
