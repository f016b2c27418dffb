"""Encoders of waveforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.source import WaveSpec
from unlabeled.encoders.encoder import Encoder

if TYPE_CHECKING:
    from jaxtyping import Float


class WaveEncoder(Encoder):
    """Strided convolutions over a waveform, then a GRU: CPC's encoder of speech.

    ``latents`` are z, one a stride; ``context`` are c, which have seen the past only; ``local`` are
    the contexts, ``encoder(x)`` their mean. `wave_encoder` builds it.
    """

    def __init__(self, spec: WaveSpec, *, convs: nn.ModuleList, gru: nn.GRU) -> None:
        super().__init__()
        self.spec: WaveSpec = spec
        self.convs, self.gru = convs, gru
        self.dim, self.latent_dim = gru.hidden_size, gru.input_size

    def latents(self, x: Float[Tensor, "b l"]) -> Float[Tensor, "b d t"]:
        """z: [B, latent_dim, T]."""
        hidden = x[:, None]
        for conv in self.convs:
            hidden = F.relu(conv(hidden))
        return hidden

    def context(self, latents: Float[Tensor, "b d t"]) -> Float[Tensor, "b t h"]:
        """c: [B, T, dim]; c_t has seen z_1 to z_t, from a state of zeros."""
        return self.gru(latents.mT)[0]

    def local(self, x: Float[Tensor, "b l"]) -> Float[Tensor, "b t h"]:
        """[B, T, dim]: the contexts."""
        return self.context(self.latents(x))

    def pool(self, local: Float[Tensor, "b t h"]) -> Float[Tensor, "b h"]:
        """[B, dim]: the average over time."""
        return local.mean(1)


def wave_encoder(
    spec: WaveSpec,
    *,
    width: int = 512,
    dim: int = 256,
    kernels: Sequence[int] = (10, 8, 4, 4, 4),
    strides: Sequence[int] = (5, 4, 2, 2, 2),
    paddings: Sequence[int] = (2, 2, 2, 2, 1),
) -> WaveEncoder:
    """Build CPC's encoder of speech (arXiv:1807.03748, section 3.1).

    The default has one latent each 160 samples, 10 ms at 16 kHz; 20,480 samples give 128. Paddings
    are those of the re-implementation Greedy InfoMax; the paper states none.

    Args:
        spec: the input.
        width: channels of each convolution.
        dim: width of the contexts.
        kernels: of the convolutions.
        strides: of the convolutions.
        paddings: zeros on both sides of each convolution's input.

    Raises:
        ValueError: lists of different lengths, or windows too short for one latent.
    """
    if not len(kernels) == len(strides) == len(paddings) > 0:
        raise ValueError(
            f"kernels={tuple(kernels)}, strides={tuple(strides)}, paddings={tuple(paddings)}: "
            "give one of each a convolution"
        )
    length, inputs, convs = spec.length, 1, nn.ModuleList()
    for kernel, stride, padding in zip(kernels, strides, paddings, strict=True):
        convs.append(nn.Conv1d(inputs, width, kernel, stride, padding))
        length, inputs = (length + 2 * padding - kernel) // stride + 1, width
    if length < 1:
        raise ValueError(f"windows of {spec.length} samples give no latent: use longer ones")
    return WaveEncoder(spec, convs=convs, gru=nn.GRU(width, dim, batch_first=True))
