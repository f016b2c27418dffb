"""Spoken: synthesized speech of many voices, whose phones, words and speakers are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d

from unlabeled.data.images import no_split
from unlabeled.data.source import DataSource, WaveSpec
from unlabeled.method import Batch

RATE = 8000
CONTROL = 80
"""Samples, 10 ms, between two settings of the voice."""
PHONES = (
    "pause", "i", "e", "a", "o", "u", "y", "r", "m", "n", "s", "sh", "f",
)  # fmt: skip
FORMANTS = (
    (500, 1500, 2500), (280, 2250, 2900), (450, 1950, 2600), (750, 1300, 2500), (500, 900, 2400),
    (320, 800, 2300), (300, 1750, 2200), (420, 1200, 1600), (250, 1000, 2200), (260, 1500, 2500),
    (500, 1600, 2600), (480, 1700, 2400), (450, 1300, 2300),
)  # fmt: skip
"""Hz of a tract of unit length."""
LOUD = (0.0, 0.8, 0.9, 1.0, 0.9, 0.8, 0.8, 0.7, 0.45, 0.45, 0.0, 0.0, 0.0)
"""Of the voice."""
HISS = (0.0,) * 10 + (0.35, 0.35, 0.15)
"""Of the noise, whose color is that of the phone: high, middle, or none."""
BAND, HARMONICS, NOISE, TEMPO = 90.0, 34, 0.04, (0.06, 0.13)


class Utterances(NamedTuple):
    """A split: waves [N, L] int16, phones and words [N, L / 80], speakers [N]."""

    wave: Tensor
    phone: Tensor
    word: Tensor
    speaker: Tensor


@dataclass(frozen=True, kw_only=True)
class Spoken(DataSource):
    """Random words of a lexicon, each utterance by one of many voices; labels are speakers.

    A phone is three formants, or colored noise; a voice has a pitch, a length of its tract, a tilt
    and a breath; words are two to four phones, 60 to 130 ms each, and neighbors blend over 40 ms.
    8 kHz, from a fixed seed. Raw batches hold ``phone`` and ``word`` [B, T], of each 10 ms, for
    evaluators. The words' lexicon and the voices are the same in both splits, utterances are not.

    Args:
        train: utterances of "train".
        test: of "test".
        seconds: length of each.
        speakers: voices.
        words: size of the lexicon.
    """

    train: int = 1500
    test: int = 300
    seconds: float = 1.6
    speakers: int = 20
    words: int = 30

    modality = "speech"

    @property
    def name(self) -> str:
        """``spoken``."""
        return "spoken"

    @property
    def classes(self) -> tuple[str, ...]:
        """The voices."""
        return tuple(f"voice {number}" for number in range(self.speakers))

    @property
    def length(self) -> int:
        """Samples of an utterance."""
        return round(self.seconds * RATE) // CONTROL * CONTROL

    def size(self, split: str) -> int:
        """As given."""
        sizes = {"train": self.train, "test": self.test}
        if split not in sizes:
            raise no_split(self.name, split, sizes)
        return sizes[split]

    def spec(self) -> WaveSpec:
        """Return 8 kHz and whole utterances; voices are made to a deviation of 0.1."""
        return WaveSpec(rate=RATE, length=self.length, std=0.1)

    def split(self, name: str) -> SpokenSamples:
        """Return "train" or "test"."""
        self.size(name)
        return SpokenSamples(_synthesize(self, name))

    def prepare(self, spec: WaveSpec) -> Callable[[Batch], Tensor]:
        """Return the function that takes whole utterances."""
        from unlabeled.views.waves import MiddleWindow  # views sit above data

        return MiddleWindow(spec=spec)

    def raw(self, x: Tensor) -> Tensor:
        """[B, 2 bands]: mean and deviation over time of the log-mel spectrum."""
        from unlabeled.encoders.logmel import LogMel  # encoders sit above data

        with torch.no_grad():
            bands = LogMel(self.spec())(x)
        return torch.cat([bands.mean(1), bands.std(1)], 1)


class SpokenSamples:
    """A split in memory."""

    def __init__(self, made: Utterances) -> None:
        self.made = made

    def __len__(self) -> int:
        return len(self.made.wave)

    def __getitems__(self, places: list[int]) -> Batch:
        """Read utterances: a list of tensors [L]."""
        index = torch.as_tensor(places, dtype=torch.int64)
        made = self.made
        return Batch(
            views=[list(made.wave[index].float() / 32768)],
            index=index,
            label=made.speaker[index],
            phone=made.phone[index],
            word=made.word[index],
        )


def lexicon(words: int) -> list[list[int]]:
    """Words as phones, two to four each, no two alike, without pauses."""
    generator = torch.Generator().manual_seed(0)
    found: list[list[int]] = []
    while len(found) < words:
        count = int(torch.randint(2, 5, (), generator=generator))
        word = (1 + torch.randperm(len(PHONES) - 1, generator=generator)[:count]).tolist()
        if word not in found:
            found.append(word)
    return found


@lru_cache(maxsize=4)
def _synthesize(data: Spoken, split: str) -> Utterances:
    generator = torch.Generator().manual_seed({"train": 1, "test": 2}[split])
    count, steps = data.size(split), data.length // CONTROL
    phone, word = _script(lexicon(data.words), count, steps, generator)
    speaker = torch.arange(count) % data.speakers
    parts = [
        _say(phone[part], speaker[part], data.speakers, generator)
        for part in torch.arange(count).split(100)
    ]
    return Utterances(torch.cat(parts), phone, word, speaker)


def _script(
    words: list[list[int]], count: int, steps: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """[N, T] phones and words (0 for pauses) of random words, one after the other."""
    phone = torch.zeros(count, steps, dtype=torch.int64)
    word = torch.zeros(count, steps, dtype=torch.int64)
    low, high = (round(100 * seconds) for seconds in TEMPO)
    for row in range(count):
        at = int(torch.randint(0, 8, (), generator=generator))
        while at < steps:
            chosen = int(torch.randint(len(words), (), generator=generator))
            for each in words[chosen]:
                long = int(torch.randint(low, high + 1, (), generator=generator))
                phone[row, at : at + long], word[row, at : at + long] = each, chosen + 1
                at += long
            at += int(torch.randint(0, 10, (), generator=generator))
    return phone, word


def _say(phone: Tensor, speaker: Tensor, speakers: int, generator: torch.Generator) -> Tensor:
    """[n, T] phones and [n] voices -> [n, T * 80] int16: harmonics and noise under formants."""
    voices = torch.Generator().manual_seed(7)
    draw = torch.rand(speakers, 4, generator=voices)[speaker]
    pitch, tract = 90 * 2.4 ** draw[:, 0], 0.8 + 0.45 * draw[:, 1]
    tilt, breath = 0.5 + draw[:, 2], 0.3 + draw[:, 3]
    count, steps = phone.shape
    formant = _blend(torch.tensor(FORMANTS, dtype=torch.float32)[phone] * tract[:, None, None])
    loud = _blend(torch.tensor(LOUD)[phone][..., None])[..., 0]
    hiss = _blend(torch.tensor(HISS)[phone][..., None])[..., 0] * breath[:, None]
    # pitch wanders by a tenth over an utterance
    drift = torch.randn(count, steps, generator=generator).cumsum(1)
    drift = drift / drift.abs().amax(1, keepdim=True).clamp_min(1e-6)
    f0 = pitch[:, None] * (1 + 0.1 * drift)
    phase = (2 * torch.pi / RATE * _hold(f0)).cumsum(1)
    turn, one, before = 2 * phase.cos(), phase.sin(), torch.zeros_like(phase)
    sound = torch.zeros_like(phase)
    for harmonic in range(1, HARMONICS + 1):
        place = harmonic * f0
        gain = torch.exp(-(((place[..., None] - formant) / BAND) ** 2) / 2).sum(-1) + 0.02
        gain = gain * loud * harmonic ** -tilt[:, None] * (place < RATE / 2)
        sound += _hold(gain) * one
        one, before = turn * one - before, one  # sin((h + 1) p) of the two before
    noise = torch.randn(count, steps * CONTROL, generator=generator)
    high = noise - noise.roll(1, 1)
    middle = noise * (2 * torch.pi * 1800 / RATE * torch.arange(steps * CONTROL)).cos()
    middle = avg_pool1d(middle[:, None], 5, 1, 2)[:, 0]
    color = _hold(phone)
    colored = torch.where(color == PHONES.index("s"), high, noise)
    sound += _hold(hiss) * torch.where(color == PHONES.index("sh"), 2 * middle, colored)
    sound = 0.1 * sound / sound.std(1, keepdim=True).clamp_min(1e-6)
    sound += NOISE * torch.randn(sound.shape, generator=generator)
    return (32767 * sound.clamp(-1, 1)).round().to(torch.int16)


def _blend(control: Tensor) -> Tensor:
    """[n, T, c]: averaged over 40 ms, as an articulator moves."""
    smooth = avg_pool1d(control.mT, 5, 1, 2, count_include_pad=False)
    return smooth.mT


def _hold(control: Tensor) -> Tensor:
    """[n, T] -> [n, T * 80]."""
    return control.repeat_interleave(CONTROL, 1)
