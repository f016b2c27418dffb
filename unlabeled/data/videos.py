"""Clips of films: a folder of video files, and what all sources of clips share."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.images import no_split
from unlabeled.data.source import DataSource, ImageSpec, raw_pixels
from unlabeled.extras import require
from unlabeled.method import Batch

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ogv", ".gif")
HELD_OUT = 5
"""Of every five clips of a film the last is "test"; so is a fifth of what is one clip long."""


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """What an encoder of clips takes: [B, T, C, H, W], each frame as its image spec says."""

    frames: int
    image: ImageSpec


class ClipSource(DataSource):
    """A source of clips [B, T, 3, H, W] uint8; some know the things in each frame."""

    modality = "video"

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Frames of a clip, and the side of each in px."""

    def masks(self, split: str) -> Tensor | None:
        """[N, T, H, W] uint8: 0 for the ground, else the number of a thing; None if not known."""
        return None

    def spec(self) -> ClipSpec:
        """Return the shape, with ImageNet's mean and standard deviation."""
        frames, side = self.shape
        image = ImageSpec(
            channels=3, size=side, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
        )
        return ClipSpec(frames=frames, image=image)

    def size(self, split: str) -> int:
        """Return the number of clips."""
        return len(self.split(split))

    @abstractmethod
    def split(self, name: str) -> ClipSamples:
        """Return "train" or "test"."""

    def prepare(self, spec: ClipSpec) -> Callable[[Batch], Tensor]:
        """Return the function to normalized clips [B, T, 3, H, W]."""

        def prepared(batch: Batch) -> Tensor:
            return normalized(batch["views"][0], spec.image)

        return prepared

    def raw(self, x: Tensor) -> Tensor:
        """[B, d]: the mean frame, at 32 px."""
        return raw_pixels(x.mean(1))


def normalized(frames: Tensor, spec: ImageSpec) -> Tensor:
    """[..., C, H, W] uint8 to float32, ``(x / 255 - mean) / std``."""
    mean, std = (frames.new_tensor(values, dtype=torch.float32) for values in (spec.mean, spec.std))
    return (frames.float() / 255 - mean[:, None, None]) / std[:, None, None]


class ClipSamples:
    """A split; ``read`` gives one clip [T, 3, H, W] uint8."""

    def __init__(self, count: int, read: Callable[[int], Tensor]) -> None:
        self._count, self._read = count, read

    def __len__(self) -> int:
        return self._count

    def __getitems__(self, places: list[int]) -> Batch:
        """Read clips."""
        clips = torch.stack([self._read(place) for place in places])
        return Batch(views=[clips], index=torch.as_tensor(places, dtype=torch.int64))


# Video files -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VideoFolder(ClipSource):
    """All video files below a folder, cut into clips of ``frames`` frames, decoded by PyAV.

    Every ``every``-th frame counts; clips follow each other without overlap. Frames are made
    smaller to ``side`` on their shorter side and cropped in the middle. Of five clips of a film
    the last is "test". A film is decoded whole, and the last sixteen are kept: cut long ones into
    scenes first.

    Args:
        path: the folder.
        frames: of a clip.
        every: which frames count, from the first.
        side: in px.

    Raises:
        FileNotFoundError: no such folder, or no films in it.
        ValueError: a film that cannot be read, named; or no film of ``frames`` frames.
    """

    path: str
    _: KW_ONLY
    frames: int = 8
    every: int = 3
    side: int = 64
    workers = 2

    @property
    def name(self) -> str:
        """The folder's name."""
        return Path(self.path).resolve().name

    @property
    def shape(self) -> tuple[int, int]:
        """Frames and side."""
        return self.frames, self.side

    def split(self, name: str) -> ClipSamples:
        """Return "train", "test" or "all"."""
        clips = _clips(self.path, self.frames * self.every)
        held = [clip for place, clip in enumerate(clips) if place % HELD_OUT == HELD_OUT - 1]
        kept = [clip for place, clip in enumerate(clips) if place % HELD_OUT != HELD_OUT - 1]
        parts = {"train": kept, "test": held or kept[-1:], "all": clips}
        if name not in parts:
            raise no_split(self.name, name, parts)

        def read(place: int) -> Tensor:
            path, number = parts[name][place]
            film = _film(path, self.every, self.side)
            return film[number * self.frames : (number + 1) * self.frames]

        return ClipSamples(len(parts[name]), read)


def list_videos(folder: str) -> list[Path]:
    """Films below a folder, in order of their paths."""
    root = Path(folder).expanduser()
    return sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)


@lru_cache(maxsize=4)
def _clips(folder: str, length: int) -> list[tuple[Path, int]]:
    """(film, number of the clip in it) of all whole clips of ``length`` frames."""
    if not Path(folder).expanduser().is_dir():
        raise FileNotFoundError(f"{folder} is no folder: give a folder of films")
    films = list_videos(folder)
    if not films:
        raise FileNotFoundError(f"{folder} has no films: give {', '.join(SUFFIXES)}")
    found = [(film, number) for film in films for number in range(_count(film) // length)]
    if not found:
        raise ValueError(
            f"no film in {folder} has {length} frames: give fewer frames or a smaller every"
        )
    return found


@lru_cache(maxsize=4096)
def _count(path: Path) -> int:
    """Frames of a film: as it says, or decoded where it does not."""
    with _opened(path) as film:
        stream = film.streams.video[0]
        said = int(stream.frames)
        return said or sum(1 for _ in film.decode(stream))


@lru_cache(maxsize=16)
def _film(path: Path, every: int, side: int) -> Tensor:
    """[N, 3, side, side] uint8: every so many frames of a film."""
    found = []
    with _opened(path) as film:
        stream = film.streams.video[0]
        stream.thread_type = "AUTO"
        for place, frame in enumerate(film.decode(stream)):
            if place % every == 0:
                found.append(_smaller(torch.from_numpy(frame.to_ndarray(format="rgb24")), side))
    return torch.stack(found)


@contextlib.contextmanager
def _opened(path: Path) -> Any:
    av = require("av", extra="video")
    try:
        with av.open(str(path)) as film:
            if not film.streams.video:
                raise ValueError(f"{path} has no picture: remove it")
            yield film
    except av.FFmpegError as error:
        raise ValueError(f"{path} cannot be read ({error}): remove or replace it") from None


def _smaller(frame: Tensor, side: int) -> Tensor:
    """[H, W, 3] uint8 to its middle [3, side, side]."""
    image = frame.permute(2, 0, 1)[None].float()
    scale = side / min(image.shape[2:])
    size = [max(side, round(scale * length)) for length in image.shape[2:]]
    image = F.interpolate(image, size=size, mode="bilinear", antialias=True)
    top, left = ((length - side) // 2 for length in size)
    return image[0, :, top : top + side, left : left + side].round().clamp(0, 255).byte()
