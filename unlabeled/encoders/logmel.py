"""LogMel: the spectrum that speech models read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unlabeled.data.source import WaveSpec
from unlabeled.extras import require

if TYPE_CHECKING:
    from jaxtyping import Float

FLOOR = 1e-5


class LogMel(nn.Module):
    """``log(mel |STFT|^2 + 1e-5)`` of 25 ms Hann windows each 10 ms, bands as librosa has them.

    Frame t covers the samples from ``hop t`` on, ``window`` of them, and no others: nothing is
    padded, so what is causal over frames is causal over samples but for one window.

    Args:
        spec: rate and length.
        bands: mel bands up to half the rate.

    Raises:
        ImportError: librosa is missing; says how to get it.
        ValueError: recordings shorter than one window.
    """

    filters: Tensor
    taper: Tensor

    def __init__(self, spec: WaveSpec, *, bands: int = 40) -> None:
        super().__init__()
        librosa = require("librosa", extra="speech")
        self.window, self.hop, self.bands = round(0.025 * spec.rate), round(0.01 * spec.rate), bands
        if spec.length < self.window:
            raise ValueError(
                f"recordings have {spec.length} samples, a window {self.window}: use longer ones"
            )
        size = 1 << (self.window - 1).bit_length()
        filters = librosa.filters.mel(sr=spec.rate, n_fft=size, n_mels=bands)
        self.register_buffer("filters", torch.tensor(filters).mT.contiguous(), persistent=False)
        self.register_buffer("taper", torch.hann_window(self.window), persistent=False)
        self.size = size

    def count(self, samples: Tensor) -> Tensor:
        """[B]: frames that lie wholly within so many samples."""
        return (samples - self.window).div(self.hop, rounding_mode="floor") + 1

    def centers(self, frames: int) -> Tensor:
        """[T]: the sample in the middle of each frame."""
        return self.window // 2 + self.hop * torch.arange(frames)

    def forward(self, x: Float[Tensor, "B L"]) -> Float[Tensor, "B T bands"]:
        """[B, T, bands]."""
        cut = x.unfold(1, self.window, self.hop) * self.taper
        power = torch.fft.rfft(cut, n=self.size).abs().square()
        return (power @ self.filters + FLOOR).log()
