"""Random convolutions: another texture for the same shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

SIDE = 2


def random_conv(
    frames: Float[Tensor, "B T C H W"], weight: Float[Tensor, "B C C k k"]
) -> Float[Tensor, "B T C H W"]:
    """Filter the frames of each sample by its own weights, padded to the same size.

    Network Randomization (arXiv:1910.05396, section 3.1), with the 2 x 2 kernels of PSE.
    """
    height, width = frames.shape[-2:]
    side = weight.shape[-1]
    before, after = (side - 1) // 2, side // 2
    padded = F.pad(frames, (before, after, before, after))
    # sums of products of each sample's own: a grouped convolution rounds by the size of the batch
    filtered = torch.zeros_like(frames)
    for down in range(side):
        for right in range(side):
            moved = padded[..., down : down + height, right : right + width]
            for channel in range(frames.shape[2]):
                factor = weight[:, None, :, channel, down, right, None, None]
                filtered += factor * moved[:, :, channel, None]
    return filtered
