"""RunEncoder: convolutions over each frame of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.control import FrameSpec
from unlabeled.encoders.encoder import Encoder

if TYPE_CHECKING:
    from jaxtyping import Float


class RunEncoder(Encoder):
    """f(frame) of every frame as ``local``, their mean over the run as ``encoder(x)``.

    `run_encoder` builds it.
    """

    def __init__(self, spec: FrameSpec, *, convs: nn.ModuleList, flat: int, dim: int) -> None:
        super().__init__()
        self.spec: FrameSpec = spec
        self.dim = dim
        self.convs, self.out = convs, nn.Linear(flat, dim)

    def frames(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B dim"]:
        """[B, dim]: of single observations."""
        for conv in self.convs:
            x = F.relu(conv(_same(x, conv)))
        return F.relu(self.out(x.flatten(1)))

    def local(self, x: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B T dim"]:
        """[B, T, dim]: of every frame."""
        return self.frames(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def pool(self, local: Float[Tensor, "B T dim"]) -> Float[Tensor, "B dim"]:
        """[B, dim]: the mean over the run."""
        return local.mean(1)


def _same(x: Tensor, conv: nn.Module) -> Tensor:
    """Pad so that a strided convolution gives ceil(side / stride): TensorFlow's "same"."""
    assert isinstance(conv, nn.Conv2d)
    kernel, stride, side = conv.kernel_size[0], conv.stride[0], x.shape[-1]
    room = max(0, (-(-side // stride) - 1) * stride + kernel - side)
    return F.pad(x, (room // 2, room - room // 2, room // 2, room - room // 2))


def run_encoder(
    spec: FrameSpec,
    *,
    widths: tuple[int, ...] = (32, 64, 64),
    kernels: tuple[int, ...] = (8, 4, 3),
    strides: tuple[int, ...] = (4, 2, 1),
    dim: int = 256,
) -> RunEncoder:
    """Build the network of PSE's jumping task (arXiv:2101.05265, appendix; DQN's convolutions).

    Args:
        spec: of the observations.
        widths: channels of the convolutions.
        kernels: their sides.
        strides: their strides.
        dim: width of f.

    Raises:
        ValueError: lists of different lengths.
    """
    if not len(widths) == len(kernels) == len(strides) > 0:
        raise ValueError(f"widths={widths}, kernels={kernels}, strides={strides}: give one of each")
    convs, inputs, side = nn.ModuleList(), spec.channels, spec.side
    for width, kernel, stride in zip(widths, kernels, strides, strict=True):
        convs.append(nn.Conv2d(inputs, width, kernel, stride))
        inputs, side = width, -(-side // stride)
    return RunEncoder(spec, convs=convs, flat=inputs * side * side, dim=dim)


def random_kernels(count: int, channels: int, side: int) -> Tensor:
    """[count, C, C, side, side]: always the same, for averaging over at test."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, channels, channels, side, side)
    return torch.randn(shape, generator=generator) / (channels * side**2) ** 0.5
