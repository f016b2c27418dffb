"""Very many names in little memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray


class Names(Sequence[str]):
    """Names (such as paths) as one blob of bytes and the place where each ends.

    A million Python strings take about 100 bytes each, these their own length and eight more.

    Args:
        blob: [total] uint8: all names in UTF-8, joined; bytes that are none stay as they are.
        ends: [N] int64: where each name ends in the blob.
    """

    def __init__(self, blob: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        if (len(ends) and int(ends[-1]) != len(blob)) or (not len(ends) and len(blob)):
            raise ValueError(f"names take {len(blob)} bytes, ends are {ends[-1:].tolist()}")
        self.blob, self.ends = blob, ends

    @classmethod
    def of(cls, names: Iterable[str]) -> Names:
        """Return the names, which may be of any number, in their order."""
        blob, lengths, rest = bytearray(), [np.empty(0, np.int64)], iter(names)
        while chunk := [name.encode("utf-8", "surrogateescape") for name in islice(rest, 4096)]:
            blob += b"".join(chunk)
            lengths.append(np.fromiter(map(len, chunk), np.int64, count=len(chunk)))
        return cls(np.frombuffer(blob, np.uint8), np.concatenate(lengths).cumsum())

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Names: ...
    def __getitem__(self, place: Any) -> Any:
        """Return one name, or those of a slice."""
        if isinstance(place, slice):
            return Names.of(self[at] for at in range(*place.indices(len(self))))
        place = range(len(self))[place]
        start = int(self.ends[place - 1]) if place else 0
        return _text(self.blob[start : int(self.ends[place])].tobytes())

    def __iter__(self) -> Iterator[str]:
        start = 0
        for at in range(0, len(self), 4096):
            ends = self.ends[at : at + 4096].tolist()
            content, first = self.blob[start : ends[-1]].tobytes(), start
            for end in ends:
                yield _text(content[start - first : end - first])
                start = end


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
