"""LibriSpeech (Panayotov et al. 2015): read English at 16 kHz, a folder a speaker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unlabeled.data.images import cache_folder, no_split
from unlabeled.data.source import WaveSpec
from unlabeled.data.waves import WaveSamples, WaveSource, open_waves

RATE, LENGTH = 16_000, 20_480
REMEDY = "get train-clean-100.tar.gz at openslr.org/12, unpack it and give its folder as root"


@dataclass(frozen=True)
class LibriSpeech(WaveSource):
    """A part of LibriSpeech, ``part/speaker/chapter/utterance.flac``; the label is the speaker.

    Every utterance with crc32(chapter/utterance) % 5 == 0 is "test". Needs soundfile.

    Args:
        root: the folder ``LibriSpeech``; by default that in our cache folder.
        part: such as "train-clean-100", the 100 hours and 251 speakers of CPC.

    Raises:
        FileNotFoundError: at the first ``split``, if the part is not there.
    """

    root: str | None = None
    part: str = "train-clean-100"

    @property
    def name(self) -> str:
        """``librispeech/PART``."""
        return f"librispeech/{self.part}"

    @property
    def window(self) -> tuple[int, int]:
        """16 kHz, windows of 20,480 samples (CPC, section 3.1)."""
        return RATE, LENGTH

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The speakers' numbers."""
        return open_waves(str(self._folder()), RATE)[1]

    def spec(self) -> WaveSpec:
        """Return 16 kHz, 20,480 samples and a deviation of 0.07; needs no files."""
        return WaveSpec(rate=RATE, length=LENGTH, std=0.07)

    def split(self, name: str) -> WaveSamples:
        """Return "train", "test" or "all"."""
        splits = open_waves(str(self._folder()), RATE)[0]
        if name not in splits:
            raise no_split(self.name, name, splits)
        return splits[name]

    def _folder(self) -> Path:
        root = Path(self.root).expanduser() if self.root else cache_folder("librispeech")
        folder = root / self.part
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} does not exist: {REMEDY}")
        return folder
