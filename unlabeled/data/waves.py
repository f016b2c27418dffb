"""Waveforms: folders of recordings."""

from __future__ import annotations

import logging
import os
import wave
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property, lru_cache
from math import gcd
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlabeled.data.images import as_labels, no_split
from unlabeled.data.order import spread
from unlabeled.data.source import DataSource, WaveSpec
from unlabeled.method import Batch

log = logging.getLogger("unlabeled")

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
STATISTICS_SAMPLE = 200


def read_wave(path: str | Path, *, rate: int) -> Tensor:
    """Read a recording as mono int16 [T] at ``rate`` samples a second; several channels are mixed.

    .wav (PCM of 8 to 32 bits) needs nothing; other formats and codecs need soundfile.

    Raises:
        ValueError: damaged or empty, or a codec that cannot be read; the message names the file.
        ImportError: soundfile is needed and missing.
    """
    if Path(path).suffix.lower() == ".wav":
        samples, found = _read_pcm(path)
    else:
        samples, found = _read_soundfile(path)
    if not len(samples):
        raise ValueError(f"{path} holds no samples: leave it out")
    mono = samples.mean(1)
    if found != rate:
        from scipy.signal import resample_poly

        common = gcd(found, rate)
        mono = resample_poly(mono, rate // common, found // common)
    scaled = np.clip(np.rint(mono * 32767), -32768, 32767)
    return torch.from_numpy(scaled.astype(np.int16))


def _read_pcm(path: str | Path) -> tuple[NDArray[Any], int]:
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            content = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path} cannot be read as PCM ({error}): save it as 16-bit PCM") from None
    content = content[: len(content) // (width * channels) * width * channels]
    samples: NDArray[Any]
    if width == 1:  # unsigned
        samples = (np.frombuffer(content, np.uint8).astype(np.float32) - 128) / 128
    elif width == 3:  # no such type: the three bytes become the upper ones of four
        parts = np.zeros((len(content) // 3, 4), np.uint8)
        parts[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        samples = parts.view("<i4")[:, 0].astype(np.float32) / 2**31
    else:
        samples = np.frombuffer(content, f"<i{width}").astype(np.float32) / 2 ** (8 * width - 1)
    return samples.reshape(-1, channels), rate


def _read_soundfile(path: str | Path) -> tuple[NDArray[Any], int]:
    try:
        import soundfile
    except ImportError as error:
        raise ImportError(f"{path} needs soundfile: pip install 'unlabeled[speech]'") from error
    try:
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{path} cannot be read ({error}): leave it out") from error
    return samples, int(rate)


class WaveSamples:
    """A split of recordings, read at first use and then kept as int16."""

    def __init__(
        self, root: str, paths: Sequence[str], *, rate: int, label: Tensor | None = None
    ) -> None:
        self.root, self.paths, self.rate, self.label = root, list(paths), rate, label
        self._kept: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def wave(self, place: int) -> Tensor:
        """[T] float32 in [-1, 1]."""
        if place not in self._kept:
            path = os.path.join(self.root, self.paths[place])
            self._kept[place] = read_wave(path, rate=self.rate)
        return self._kept[place].float() / 32768

    def __getitems__(self, places: list[int]) -> Batch:
        """Read the recordings at ``places``: a list of tensors [T_i]."""
        index = torch.as_tensor(places, dtype=torch.int64)
        batch = Batch(views=[[self.wave(place) for place in places]], index=index)
        batch["path"] = [self.paths[place] for place in places]
        if self.label is not None:
            batch["label"] = self.label[index]
        return batch


class WaveSource(DataSource):
    """A source of recordings; raw batches hold B tensors [T_i], float32 in [-1, 1]."""

    modality = "speech"

    @abstractmethod
    def split(self, name: str) -> WaveSamples:
        """Return the split or raise a ValueError that lists those there are."""

    @property
    @abstractmethod
    def window(self) -> tuple[int, int]:
        """Samples a second, and the recommended samples of a window."""

    def size(self, split: str) -> int:
        """Return the number of recordings in a split."""
        return len(self.split(split))

    def spec(self) -> WaveSpec:
        """Return rate and window, and the deviation of up to 200 recordings."""
        return self._measured

    def prepare(self, spec: WaveSpec) -> Callable[[Batch], Tensor]:
        """Return the function that takes the middle window of each recording."""
        from unlabeled.views.waves import MiddleWindow  # views sit above data

        return MiddleWindow(spec=spec)

    @cached_property
    def _measured(self) -> WaveSpec:
        rate, length = self.window
        samples = self.split("train")
        places = spread(len(samples), STATISTICS_SAMPLE)
        joined = torch.cat([samples.wave(place) for place in places])
        return WaveSpec(rate=rate, length=length, std=round(max(float(joined.std()), 1e-4), 4))


@dataclass(frozen=True)
class WaveFolder(WaveSource):
    """All recordings below a folder: WAV, and with soundfile FLAC, Ogg and MP3.

    Where every recording lies in one of two or more folders at the top, these are its labels
    (speakers, say), and every recording with crc32(path below that folder) % 5 == 0 is "test", so
    that what two speakers say alike is on one side. Without labels all recordings are "train".
    "all" is everything. Empty and damaged WAV files are named once and left out.

    Args:
        path: the folder.
        rate: samples a second; recordings of another rate are resampled.
        length: recommended samples of a window.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no recordings, at the first use.
    """

    path: str
    _: KW_ONLY
    rate: int = 16_000
    length: int = 20_480

    def __post_init__(self) -> None:
        if not os.path.isdir(self.path):
            raise FileNotFoundError(f"{self.path} does not exist: give a folder of recordings")

    @property
    def name(self) -> str:
        """The folder's name."""
        return Path(self.path).resolve().name

    @property
    def window(self) -> tuple[int, int]:
        """Rate and length."""
        return self.rate, self.length

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The folders at the top, sorted; None where there are none."""
        return open_waves(self.path, self.rate)[1]

    def fit(self, spec: WaveSpec) -> WaveFolder:
        """Return the folder read at the encoder's rate."""
        return replace(self, rate=spec.rate)

    def split(self, name: str) -> WaveSamples:
        """Return "train", "all" or, where there are labels, "test"."""
        splits = open_waves(self.path, self.rate)[0]
        if name not in splits:
            raise no_split(self.path, name, splits, "no folders of labels, so nothing is set apart")
        return splits[name]


def list_waves(root: str) -> list[str]:
    """Return the recordings below a folder, as sorted relative paths."""
    found = []
    for folder, _, files in os.walk(root):
        for file in files:
            if os.path.splitext(file)[1].lower() in SUFFIXES:
                found.append(os.path.relpath(os.path.join(folder, file), root).replace(os.sep, "/"))
    return sorted(found)


def _holds_samples(path: str) -> bool:
    if not path.lower().endswith(".wav"):
        return os.path.getsize(path) > 0
    try:
        with wave.open(path, "rb") as file:
            return file.getnframes() > 0
    except (wave.Error, EOFError):
        return False


@lru_cache(maxsize=4)
def open_waves(
    root: str, rate: int, keep: Callable[[str], bool] | None = None
) -> tuple[dict[str, WaveSamples], tuple[str, ...] | None]:
    """Return the splits of a folder by name, and its classes; see `WaveFolder`.

    Raises:
        ValueError: no recordings.
    """
    known = [path for path in list_waves(root) if keep is None or keep(path)]
    paths = [path for path in known if _holds_samples(os.path.join(root, path))]
    if empty := sorted(set(known) - set(paths)):
        log.warning(
            "%s: %d recordings left out, empty or damaged, such as %s", root, len(empty), empty[0]
        )
    if not paths:
        raise ValueError(f"{root} holds no recordings: known are {' '.join(SUFFIXES)}")
    tops = [path.split("/", 1)[0] if "/" in path else "" for path in paths]
    if "" in tops or len(set(tops)) < 2:
        samples = WaveSamples(root, paths, rate=rate)
        return {"train": samples, "all": samples}, None
    label, classes = as_labels(tops)
    test = torch.tensor([crc32(os.fsencode(path.split("/", 1)[1])) % 5 == 0 for path in paths])
    parts: dict[str, Any] = {"train": ~test, "test": test, "all": torch.ones_like(test)}
    splits = {
        name: WaveSamples(
            root,
            [path for path, kept in zip(paths, part.tolist(), strict=True) if kept],
            rate=rate,
            label=label[part],
        )
        for name, part in parts.items()
        if part.any()
    }
    return splits, classes
