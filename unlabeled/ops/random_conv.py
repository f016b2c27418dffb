"""Random convolutions: another texture for the same shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    batch, count, channels, height, width = frames.shape
    side = weight.shape[-1]
    before, after = (side - 1) // 2, side // 2
    folded = frames.transpose(0, 1).reshape(count, batch * channels, height, width)
    padded = F.pad(folded, (before, after, before, after))
    kernel = weight.reshape(batch * channels, channels, side, side)
    filtered = F.conv2d(padded, kernel, groups=batch)
    return filtered.view(count, batch, channels, height, width).transpose(0, 1)
