"""Contexts: what summarizes latents that came before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float


class RowBlock(nn.Module):
    """A residual block that sees its own row and the one above (CPC v2, appendix A)."""

    def __init__(self, dim: int, *, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(dim, hidden, 1)
        self.across = nn.Conv2d(hidden, hidden, (1, 3), padding=(0, 1))
        self.down = nn.Conv2d(hidden, hidden, (2, 1))
        self.expand = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, dim, H, W] -> [B, dim, H, W]."""
        hidden = self.across(F.relu(self.reduce(x)))
        # a row of zeros on top: the output's row r has seen rows r - 1 and r
        hidden = F.relu(self.down(F.pad(hidden, (0, 0, 1, 0))))
        return x + self.expand(hidden)


class RowContext(nn.Module):
    """A masked convolutional network in which row r sees rows 0 to r, in all columns.

    The PixelCNN of CPC as printed for CPC v2 (arXiv:1905.09272, appendix A): residual blocks of
    1x1, 1x3 and 2x1 convolutions, and a last ReLU. No normalization, which would leak.

    Args:
        dim: width of input and output.
        hidden: width inside the blocks.
        blocks: how many; each sees one row further up.
    """

    def __init__(self, dim: int, *, hidden: int = 256, blocks: int = 5) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(RowBlock(dim, hidden=hidden) for _ in range(blocks)))

    def forward(self, z: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
        """[B, dim, H, W] -> [B, dim, H, W]."""
        return F.relu(self.blocks(z))
