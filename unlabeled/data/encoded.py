"""Splits of images whose files lie inside others (shards, tables): read as bytes, decoded here."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from unlabeled.data.decode import (
    PEAKS,
    UNREADABLE,
    Encoded,
    Header,
    Target,
    read_header,
    read_image,
    read_peak,
    reason,
)
from unlabeled.data.files import Faults, common_channels, listed, recommended_side
from unlabeled.data.images import STORED, stacked
from unlabeled.method import Batch

LOOK_SAMPLES = 500
"""So many images say what channels, depth and side the others have."""
LOOK_AT_ONCE = 50
OVERHEAD = 1000
"""Bytes that an image in memory takes beside its pixels."""


class Record(NamedTuple):
    """One image file: a name for messages, its bytes, its class where that is known."""

    name: str
    content: bytes
    label: int | None


class Records(Protocol):
    """Where image files are: all splits of a source, numbered from 0."""

    def __len__(self) -> int: ...

    def fetch(self, places: Sequence[int]) -> list[Record]:
        """Read files; several threads may call it."""
        ...


class Decoded(NamedTuple):
    """An image [C, H, W] with its name and class."""

    image: Tensor
    name: str
    label: int | None


class EncodedStore:
    """Decodes the records of one source in threads and keeps them in memory up to a size.

    Channels, depth and the recommended side follow from the records at ``look``, as for files
    (`unlabeled.data.files.FileStore`). Records are never all listed: what is in memory does not
    grow with their number.

    Args:
        source: what messages call it.
        records: where the bytes come from.
        look: places of up to 500 records to look at.
        channels: instead of what the records say.
        image_size: instead of what the records say.
        cache_bytes: decoded images are kept up to this size.

    Raises:
        ValueError: none of the records at ``look`` can be read.
    """

    def __init__(
        self,
        source: str,
        *,
        records: Records,
        look: Sequence[int],
        channels: int | None,
        image_size: int | None,
        cache_bytes: int,
    ) -> None:
        self.records, self.cache_bytes = records, cache_bytes
        self.faults = Faults(source, len(records))
        good, largest = self._look(look)
        self.image_size = image_size or recommended_side(good)
        self.target = Target(
            channels=channels or common_channels(good),
            side=math.ceil(self.image_size * STORED),
            deep=2 * sum(header.kind != "byte" for header in good) > len(good),
            peak=next((peak for peak in PEAKS if largest <= peak), PEAKS[-1]),
        )
        self._bad: set[int] = set()
        self._kept: dict[int, Decoded] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def read(self, places: Sequence[int]) -> list[Decoded | None]:
        """Read images from memory or by threads; None for a record that cannot be read."""
        found = {place: self._kept.get(place) for place in places}
        missing = [
            place for place, kept in found.items() if kept is None and place not in self._bad
        ]
        if missing:
            pairs = list(zip(missing, self.records.fetch(missing), strict=True))
            found.update(zip(missing, _threads(self._decode, pairs), strict=True))
        return [found[place] for place in places]

    def _decode(self, pair: tuple[int, Record]) -> Decoded | None:
        place, record = pair
        file = Encoded(record.name, record.content)
        try:
            image = read_image(file, self.target)
        except UNREADABLE as error:
            self._bad.add(place)
            self.faults.add(record.name, reason(error, file))
            return None
        decoded = Decoded(image, record.name, record.label)
        with self._lock:
            if self._bytes + image.nbytes + OVERHEAD <= self.cache_bytes:
                self._kept[place] = decoded
                self._bytes += image.nbytes + OVERHEAD
        return decoded

    def _look(self, look: Sequence[int]) -> tuple[list[Header], float]:
        """Return the headers and the largest value of deep images."""
        good: list[Header] = []
        bad: dict[str, str] = {}
        largest = 0.0
        for at in range(0, len(look), LOOK_AT_ONCE):  # the bytes of all would be many
            for record in self.records.fetch(look[at : at + LOOK_AT_ONCE]):
                file = Encoded(record.name, record.content)
                try:
                    header = read_header(file)
                    if header.kind == "wide":
                        largest = max(largest, read_peak(file))
                    good.append(header)
                except UNREADABLE as error:
                    bad[record.name] = reason(error, file)
        if bad and not good:
            raise ValueError(f"{self.faults.source}: no image can be read: {listed(bad)}")
        return good, largest


def _threads(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    if len(items) < 2:
        return map(function, items)
    with ThreadPoolExecutor(min(len(items), os.cpu_count() or 1)) as pool:
        return iter(list(pool.map(function, items)))


class EncodedSamples:
    """A split of records. One that cannot be read is replaced by the next readable of the split.

    ``label`` and ``path`` follow the pixels; ``index`` stays as asked.
    """

    def __init__(self, store: EncodedStore, places: Sequence[int] | NDArray[Any]) -> None:
        self.store, self.places = store, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitems__(self, places: list[int]) -> Batch:
        """Read one batch: a tensor [B, C, H, W], or a list of [C, H, W] where sizes differ."""
        read = self.store.read([int(self.places[place]) for place in places])
        whole = [
            found if found is not None else self._next(place)
            for place, found in zip(places, read, strict=True)
        ]
        batch = Batch(
            views=[stacked([each.image for each in whole])],
            index=torch.as_tensor(places, dtype=torch.int64),
            path=[each.name for each in whole],
        )
        label = [each.label for each in whole if each.label is not None]
        if len(label) == len(whole):
            batch["label"] = torch.tensor(label, dtype=torch.int64)
        return batch

    def _next(self, place: int) -> Decoded:
        for step in range(1, len(self)):
            found = self.store.read([int(self.places[(place + step) % len(self)])])[0]
            if found is not None:
                return found
        raise ValueError(f"{self.store.faults.source}: no file of it can be read")
