"""Asterisk's prompts: some 485 announcements in each of five voices, real studio speech at 8 kHz.

Debian's asterisk-core-sounds packages (CC-BY-SA 3.0; the Italian ones CC-BY 3.0).
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from unlabeled.data.debian import unpack
from unlabeled.data.images import cache_folder, no_split
from unlabeled.data.source import WaveSpec
from unlabeled.data.waves import WaveSamples, WaveSource, open_waves

REMEDY = "run: unlabeled data get asterisk"
LANGUAGES = ("en", "es", "fr", "it", "ru")
VOICES = (
    "en_US_f_Allison", "es_MX_f_Allison", "fr_CA_f_June", "it_IT_m_Carlo", "ru_RU_f_IvrvoiceRU",
)  # fmt: skip
SYSTEM = Path("/usr/share/asterisk/sounds")
RATE, LENGTH = 8000, 8192


@dataclass(frozen=True)
class Asterisk(WaveSource):
    """2,780 prompts; the label is the voice. A prompt is on one side of the split in all voices.

    The English and the Spanish voice are one speaker in two languages. Searched in ``root``, in
    our cache folder and in Debian's; nothing is fetched before `get` is called.

    Raises:
        FileNotFoundError: at the first ``split``, if no place has all voices.
    """

    root: str | None = None

    @property
    def name(self) -> str:
        """``asterisk``."""
        return "asterisk"

    @property
    def classes(self) -> tuple[str, ...]:
        """The five voices."""
        return VOICES

    @property
    def window(self) -> tuple[int, int]:
        """8 kHz, windows of about a second."""
        return RATE, LENGTH

    def spec(self) -> WaveSpec:
        """Return 8 kHz, 8,192 samples, the deviation of the training split; needs no files."""
        return WaveSpec(rate=RATE, length=LENGTH, std=0.1033)

    def split(self, name: str) -> WaveSamples:
        """Return "train", "test" or "all"."""
        splits = _open(str(find(self.root)))
        if name not in splits:
            raise no_split(self.name, name, splits)
        return splits[name]


def spoken(path: str) -> bool:
    """Whether a file is a prompt of one of the voices: not one of pure silence."""
    return path.split("/", 1)[0] in VOICES and "/silence/" not in path


@lru_cache(maxsize=2)
def _open(folder: str) -> dict[str, WaveSamples]:
    return open_waves(folder, RATE, spoken)[0]


def find(root: str | None = None) -> Path:
    """Return the first folder that holds all voices; no network.

    Raises:
        FileNotFoundError: none does; the message lists the places and the remedy.
    """
    given = [] if root is None else [Path(root).expanduser()]
    places = [*given, cache_folder("asterisk"), SYSTEM]
    for place in places:
        if all((place / voice).is_dir() for voice in VOICES):
            return place
    raise FileNotFoundError(f"asterisk is not in {', '.join(map(str, places))}: {REMEDY}")


def get() -> Path:
    """Find the prompts, or unpack Debian's packages (95 MB) into our cache folder.

    Raises:
        OSError: they cannot be had; the message says why.
    """
    try:
        return find()
    except FileNotFoundError:
        pass
    target = cache_folder("asterisk")
    target.mkdir(parents=True, exist_ok=True)
    packages = [f"asterisk-core-sounds-{language}-wav" for language in LANGUAGES]
    with tempfile.TemporaryDirectory(prefix="unlabeled-", dir=target) as work:
        try:
            root = unpack(packages, Path(work)) / SYSTEM.relative_to("/")
        except (RuntimeError, OSError) as error:
            raise OSError(f"asterisk cannot be had: {error}") from error
        for voice in VOICES:
            if not (target / voice).is_dir():
                # in one step, so that a folder that is there is whole
                os.replace(root / voice, target / voice)
    return find()
