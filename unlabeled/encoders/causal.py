"""Causal encoders of speech: networks over log-mel frames that see the past alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unlabeled.data.source import WaveSpec
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.logmel import LogMel

if TYPE_CHECKING:
    from jaxtyping import Float

TYPICAL = (-3.0, 3.5)
"""Mean and deviation of log-mel of speech at unit deviation, until those of the data are known."""


class CausalEncoder(Encoder):
    """Log-mel frames, normalized over the data, and layers whose frame t has seen frames to t.

    ``local`` are the last layer's states, ``encoder(x)`` their mean over time, ``layers(x)`` the
    states of all. The statistics are buffers that a method measures once (`normalize`).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: WaveSpec, *, net: Recurrent | Attentive, bands: int) -> None:
        super().__init__()
        self.spec: WaveSpec = spec
        self.logmel, self.net = LogMel(spec, bands=bands), net
        self.dim = net.dim
        self.register_buffer("mean", torch.full((bands,), TYPICAL[0]))
        self.register_buffer("std", torch.full((bands,), TYPICAL[1]))

    def frames(self, x: Float[Tensor, "B L"]) -> Float[Tensor, "B T bands"]:
        """[B, T, bands]: the normalized spectrum."""
        return (self.logmel(x) - self.mean) / self.std

    def moments(self, x: Float[Tensor, "B L"]) -> Float[Tensor, "B two_bands"]:
        """[B, 2 bands]: mean of the log-mel spectrum over time, and of its square."""
        bands = self.logmel(x)
        return torch.cat([bands.mean(1), bands.square().mean(1)], 1)

    def normalize(self, moments: Float[Tensor, "N two_bands"]) -> None:
        """Set the statistics to those of all frames."""
        mean, square = moments.mean(0).chunk(2)
        self.mean.copy_(mean)
        self.std.copy_((square - mean.square()).clamp_min(1e-6).sqrt())

    def layers(self, x: Float[Tensor, "B L"]) -> list[Tensor]:
        """[B, T, dim] of each layer."""
        return self.net(self.frames(x))

    def local(self, x: Float[Tensor, "B L"]) -> Float[Tensor, "B T dim"]:
        """[B, T, dim]: the last layer."""
        return self.layers(x)[-1]

    def pool(self, local: Float[Tensor, "B T dim"]) -> Float[Tensor, "B dim"]:
        """[B, dim]: the mean over time."""
        return local.mean(1)


class Recurrent(nn.Module):
    """GRU layers, with a residual connection where a layer keeps the width."""

    def __init__(self, bands: int, dim: int, layers: int) -> None:
        super().__init__()
        widths = [bands] + [dim] * (layers - 1)
        self.grus = nn.ModuleList(nn.GRU(width, dim, batch_first=True) for width in widths)
        self.dim = dim

    def forward(self, x: Float[Tensor, "B T bands"]) -> list[Tensor]:
        """[B, T, dim] of each layer."""
        found = []
        for gru in self.grus:
            y = gru(x)[0]
            x = x + y if x.shape == y.shape else y
            found.append(x)
        return found


class Attentive(nn.Module):
    """Blocks of a Transformer's decoder, which attend to the past, with sinusoids for places."""

    def __init__(self, bands: int, dim: int, layers: int, heads: int) -> None:
        super().__init__()
        self.inputs, self.dim = nn.Linear(bands, dim), dim
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, heads, 4 * dim, dropout=0.0, batch_first=True)
            for _ in range(layers)
        )

    def forward(self, x: Float[Tensor, "B T bands"]) -> list[Tensor]:
        """[B, T, dim] of each layer."""
        frames = x.shape[1]
        x = self.inputs(x) + sinusoids(frames, self.dim).to(x)
        later = torch.ones(frames, frames, dtype=torch.bool, device=x.device).triu(1)
        found = []
        for block in self.blocks:
            x = block(x, src_mask=later)
            found.append(x)
        return found


def sinusoids(count: int, dim: int) -> Float[Tensor, "T dim"]:
    """``sin, cos(t / 10000^(2i / dim))`` (Vaswani et al. 2017, section 3.5)."""
    rate = torch.exp(torch.arange(0, dim, 2) * (-math.log(10_000.0) / dim))
    angle = torch.arange(count)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], 2).flatten(1)


def recurrent_encoder(
    spec: WaveSpec, *, bands: int = 80, dim: int = 512, layers: int = 3
) -> CausalEncoder:
    """Build R-APC's network (arXiv:1910.12607; three layers as released).

    Args:
        spec: the input.
        bands: mel bands.
        dim: width of each layer.
        layers: how many.
    """
    return CausalEncoder(spec, net=Recurrent(bands, dim, layers), bands=bands)


def attentive_encoder(
    spec: WaveSpec, *, bands: int = 80, dim: int = 512, layers: int = 4, heads: int = 8
) -> CausalEncoder:
    """Build T-APC's network: post-norm blocks of 4 dim hidden units.

    Args:
        spec: the input.
        bands: mel bands.
        dim: width, a multiple of ``heads`` and of two.
        layers: blocks.
        heads: of attention.
    """
    return CausalEncoder(spec, net=Attentive(bands, dim, layers, heads), bands=bands)
