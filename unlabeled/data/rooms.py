"""RoomPairs: consecutive frames of rendered rooms with known flow and occlusion."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor

from unlabeled.data import scenes
from unlabeled.data.images import no_split
from unlabeled.data.pairs import FramePairs, Motion, PairSamples
from unlabeled.data.rendered import rendered
from unlabeled.ops import cast

SEEDS = {"train": 1000, "test": 5000}
CHUNK = 8


@dataclass(frozen=True, kw_only=True)
class RoomPairs(FramePairs):
    """Rooms with textured boxes, two of which move, seen by a camera that walks (``rooms``).

    Three frames of each room of "train" make two pairs; of a room of "test", its last two frames
    are one. Rendered once, in about a minute, into the cache folder.

    Args:
        height: in pixels.
        width: in pixels.
        train: rooms.
        test: rooms.
    """

    height: int = 64
    width: int = 96
    train: int = 400
    test: int = 60

    @property
    def name(self) -> str:
        """``rooms``."""
        return "rooms"

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    def split(self, name: str) -> PairSamples:
        """Return "train" or "test"."""
        frames = self._rendered(name)["frames"]
        if name == "test":
            return PairSamples(len(frames), lambda place: frames[place, 1:])
        return PairSamples(
            2 * len(frames), lambda place: frames[place // 2, place % 2 : place % 2 + 2]
        )

    def motion(self, split: str) -> Motion:
        """Return the exact flow of "test", or of the second pair of each room of "train"."""
        found = self._rendered(split)
        return Motion(found["flow"], found["occluded"].bool())

    def _rendered(self, split: str) -> dict[str, Tensor]:
        counts = {"train": self.train, "test": self.test}
        if split not in counts:
            raise no_split(self.name, split, counts)
        return _rendered(SEEDS[split], counts[split], self.height, self.width)


@lru_cache(maxsize=4)
def _rendered(seed: int, count: int, height: int, width: int) -> dict[str, Tensor]:
    return rendered(
        "rooms",
        f"{seed}-{count}-{height}x{width}",
        code=(scenes, cast),
        make=partial(_render, seed, count, height, width),
    )


def _render(seed: int, count: int, height: int, width: int) -> dict[str, Tensor]:
    parts: dict[str, list[Tensor]] = {"frames": [], "flow": [], "occluded": []}
    for start in range(0, count, CHUNK):
        rooms = scenes.draw_rooms(min(CHUNK, count - start), frames=3, seed=seed + start)
        shown = [scenes.photos(rooms, time, height=height, width=width) for time in range(3)]
        known = scenes.truth(rooms, 1, 2, height=height, width=width)
        parts["frames"].append(torch.stack(shown, 1))
        parts["flow"].append(known.flow)
        parts["occluded"].append(known.occluded.byte())
    return {name: torch.cat(found).contiguous() for name, found in parts.items()}
