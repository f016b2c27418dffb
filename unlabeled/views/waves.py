"""Windows of waveforms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unlabeled.data.source import WaveSpec
from unlabeled.method import Batch
from unlabeled.views.generator import SampleGenerator

if TYPE_CHECKING:
    from jaxtyping import Float, Int


def windows(
    waves: Sequence[Tensor], start: Int[Tensor, " B"], *, length: int
) -> Float[Tensor, "B L"]:
    """Cut ``length`` samples out of each recording [T_i] from its ``start`` on.

    Shorter recordings are repeated, so that no window holds silence that was not recorded.
    """
    cut = []
    for recording, first in zip(waves, start.tolist(), strict=True):
        if len(recording) < length:
            recording = recording.repeat(-(-(length + first) // len(recording)))
        cut.append(recording[first : first + length])
    return torch.stack(cut)


def _raw(batch: Batch) -> Sequence[Tensor]:
    if len(batch["views"]) != 1:
        raise ValueError(f"batch has {len(batch['views'])} views: give the raw batch, which has 1")
    return batch["views"][0]


@dataclass(frozen=True)
class RandomWindow:
    """One window of each recording from a random place (CPC, arXiv:1807.03748, section 3.1).

    Args:
        length: samples of the window; None takes the spec's.
        spec: what the encoder gets; set by `fit`.

    Raises:
        ValueError: a length below 1.
    """

    length: int | None = None
    _: KW_ONLY
    spec: WaveSpec | None = None

    def __post_init__(self) -> None:
        if self.length is not None and self.length < 1:
            raise ValueError(f"length is {self.length}: give at least 1 sample, or None")

    def fit(self, spec: WaveSpec) -> RandomWindow:
        """Return a copy whose length follows the spec where it is None."""
        length = self.length or spec.length
        return replace(self, length=length, spec=replace(spec, length=length))

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """Return a new batch with one view [B, length]."""
        if self.spec is None:
            raise ValueError("views have no spec: call fit(data.spec()) first")
        waves = _raw(batch)
        room = torch.tensor([max(0, len(each) - self.spec.length) for each in waves])
        start = (generator.uniform().double().cpu() * (room + 1)).long()
        view = windows(waves, start, length=self.spec.length) / self.spec.std
        result: Batch = {**batch, "views": [view]}
        return result


@dataclass(frozen=True)
class MiddleWindow:
    """The window in the middle of each recording, for evaluation."""

    spec: WaveSpec

    def __call__(self, batch: Batch) -> Tensor:
        """[B, length] float32 of a raw batch."""
        waves = _raw(batch)
        start = torch.tensor([max(0, len(each) - self.spec.length) // 2 for each in waves])
        return windows(waves, start, length=self.spec.length) / self.spec.std


@dataclass(frozen=True)
class Beginning:
    """The first ``spec.length`` samples of each recording, zeros after the end of shorter ones.

    ``length`` [B] is how many are the recording's own (APC, official preparation of data).

    Args:
        length: samples; None takes the spec's.
        spec: what the encoder gets; set by `fit`.
    """

    length: int | None = None
    _: KW_ONLY
    spec: WaveSpec | None = None

    def fit(self, spec: WaveSpec) -> Beginning:
        """Return a copy whose length follows the spec where it is None."""
        length = self.length or spec.length
        return replace(self, length=length, spec=replace(spec, length=length))

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """Return a new batch with one view [B, length] and ``length``; nothing is random."""
        if self.spec is None:
            raise ValueError("views have no spec: call fit(data.spec()) first")
        waves = [each[: self.spec.length] for each in _raw(batch)]
        view = torch.zeros(len(waves), self.spec.length)
        for row, recording in zip(view, waves, strict=True):
            row[: len(recording)] = recording
        result: Batch = {
            **batch,
            "views": [view / self.spec.std],
            "length": torch.tensor([len(each) for each in waves]),
        }
        return result
