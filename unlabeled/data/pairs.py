"""Pairs of frames, of which one shows what the other does a moment later or from beside."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unlabeled.data.decode import SUFFIXES
from unlabeled.data.images import no_split
from unlabeled.data.source import DataSource, raw_pixels
from unlabeled.method import Batch

HELD_OUT = 8
"""Every eighth pair of a folder is "test"."""


@dataclass(frozen=True, kw_only=True)
class PairSpec:
    """What a network of pairs takes: [B, 2, 3, H, W] in [0, 1]; sides are multiples of ``unit``."""

    height: int
    width: int
    unit: int = 1


class Motion(NamedTuple):
    """Flow [N, 2, H, W] in px from the first frames, NaN unknown; hidden [N, H, W] bool, or None.

    Hidden is what the second frame does not show.
    """

    flow: Tensor
    occluded: Tensor | None


class FramePairs(DataSource):
    """A source of pairs of frames, color, of one size; some know the flow between them."""

    modality = "pairs"

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Height and width."""

    @abstractmethod
    def split(self, name: str) -> PairSamples:
        """Return "train" or "test"."""

    def motion(self, split: str) -> Motion | None:
        """Return the true flow of a split, None where it is not known."""
        return None

    def spec(self) -> PairSpec:
        """Return the size."""
        height, width = self.shape
        return PairSpec(height=height, width=width)

    def size(self, split: str) -> int:
        """Return the number of pairs."""
        return len(self.split(split))

    def prepare(self, spec: PairSpec) -> Callable[[Batch], Tensor]:
        """Return the function to [B, 2, 3, H, W] float32 in [0, 1], in the data's own size."""
        return unit_frames

    def raw(self, x: Tensor) -> Tensor:
        """[B, d]: the first frame, at 32 px."""
        return raw_pixels(x[:, 0])


def unit_frames(batch: Batch) -> Tensor:
    """The view [B, 2, 3, H, W] uint8 as float32 in [0, 1]."""
    frames: Tensor = batch["views"][0]
    return frames.float() / 255


class PairSamples:
    """A split; ``read`` gives frames [2, 3, H, W] uint8 of one place."""

    def __init__(self, count: int, read: Callable[[int], Tensor]) -> None:
        self._count, self._read = count, read

    def __len__(self) -> int:
        return self._count

    def __getitems__(self, places: list[int]) -> Batch:
        """Read pairs."""
        frames = torch.stack([self._read(place) for place in places])
        return Batch(views=[frames], index=torch.as_tensor(places, dtype=torch.int64))


# Folders -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FrameFolder(FramePairs):
    """Frames of films as image files, ``frames:FOLDER``: one after the other makes a pair.

    Files of one folder, in the order of their names, are a film; sub-folders are films of their
    own. Every eighth pair is held out as "test".

    Args:
        path: the folder.
        height: frames are resized to it; by default theirs, at most 128.
        width: in proportion by default.

    Raises:
        FileNotFoundError: no such folder, or no two frames in it, at the first use.
        ValueError: a file that cannot be read, at its first use.
    """

    path: str
    height: int | None = None
    width: int | None = None
    workers = 2

    @property
    def name(self) -> str:
        """The folder's name."""
        return Path(self.path).resolve().name

    @property
    def shape(self) -> tuple[int, int]:
        """As given, or as the first frame's, rounded to multiples of 16."""
        if self.height and self.width:
            return self.height, self.width
        first = _open(_films(self.path)[0][0])
        height = self.height or max(16, min(first.height, 128) // 16 * 16)
        return height, self.width or max(16, round(first.width * height / first.height / 16) * 16)

    def split(self, name: str) -> PairSamples:
        """Return "train", "test" or "all"."""
        pairs = _films(self.path)
        parts = {
            "train": [pair for place, pair in enumerate(pairs) if place % HELD_OUT or place == 0],
            "test": pairs[HELD_OUT::HELD_OUT] or pairs[-1:],
            "all": pairs,
        }
        if name not in parts:
            raise no_split(self.name, name, parts)
        shape = self.shape

        def read(place: int) -> Tensor:
            return torch.stack([_frame(path, shape) for path in parts[name][place]])

        return PairSamples(len(parts[name]), read)


@lru_cache(maxsize=4)
def _films(folder: str) -> list[tuple[Path, Path]]:
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: give a folder of frames")
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
    pairs = [pair for pair in pairwise(files) if pair[0].parent == pair[1].parent]
    if not pairs:
        raise FileNotFoundError(
            f"{folder} has no two frames in one folder: give image files named in their order"
        )
    return pairs


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path).convert("RGB")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): remove or replace it") from None


def _frame(path: Path, shape: tuple[int, int]) -> Tensor:
    image = _open(path)
    if (image.height, image.width) != shape:
        image = image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
