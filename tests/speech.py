"""Recordings that tests make: phones are pairs of formants, speakers a pitch and a tract."""

from __future__ import annotations

import math
import wave
from pathlib import Path

import numpy as np

RATE = 8000


def utterance(speaker: int, phones: list[int], *, seed: int, seconds: float = 0.1) -> np.ndarray:
    """Sum of harmonics of the speaker's pitch under the phone's two formants, in [-1, 1]."""
    generator = np.random.default_rng(seed)
    parts = []
    for phone in phones:
        time = np.arange(round(RATE * seconds * generator.uniform(0.8, 1.2))) / RATE
        pitch = (90 + 45 * speaker) * generator.uniform(0.95, 1.05)
        tract = 1 + 0.08 * speaker
        formants = (300 + 120 * (phone % 5)) * tract, (1000 + 350 * (phone // 5)) * tract
        sound = np.zeros_like(time)
        for harmonic in range(1, int(3600 / pitch)):
            place = harmonic * pitch
            gain = sum(math.exp(-(((place - formant) / 150) ** 2)) for formant in formants)
            sound += gain * np.sin(2 * math.pi * place * time + generator.uniform(0, 6))
        parts.append(sound / (np.abs(sound).max() + 1e-6) * np.hanning(len(time)) ** 0.3)
    joined = np.concatenate(parts) * 0.5
    return joined + 0.005 * generator.standard_normal(len(joined))


def write_wav(path: Path, samples: np.ndarray, *, rate: int = RATE) -> None:
    """Write mono [T] or stereo [T, 2] in [-1, 1] as 16-bit PCM."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())


def write_speech(folder: Path, *, speakers: int = 4, each: int = 40, phones: int = 8) -> None:
    """A folder a speaker, ``each`` utterances of random phones in it."""
    for speaker in range(speakers):
        for number in range(each):
            seed = 1000 * speaker + number
            order = np.random.default_rng(seed).integers(0, 15, phones).tolist()
            path = folder / f"speaker{speaker}" / f"{number:03d}.wav"
            write_wav(path, utterance(speaker, order, seed=seed))
