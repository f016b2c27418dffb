"""Images as grids of overlapping patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Shaped


def patch_sizes(side: int, *, patch: float, stride: float) -> tuple[int, int]:
    """Return a patch's side and the stride in whole pixels, given as shares of an image's side.

    CPC (arXiv:1807.03748, section 3.2) cuts 256 px into patches of 64 with a stride of 32: shares
    of 1/4 and 1/8, and a grid of 7 x 7.

    Raises:
        ValueError: a share outside of (0, 1].
    """
    if not (0 < patch <= 1 and 0 < stride <= 1):
        raise ValueError(f"patch is {patch} and stride {stride}: give shares of the side in (0, 1]")
    return max(1, round(patch * side)), max(1, round(stride * side))


def grid_side(side: int, *, patch: int, stride: int) -> int:
    """Return how many patches lie along a side of an image."""
    return (side - patch) // stride + 1


def cut_patches(
    images: Shaped[Tensor, "b c h w"], *, patch: int, stride: int
) -> Shaped[Tensor, "b rows columns c patch patch"]:
    """Cut images into patches, row by row from the top left; what is left over is dropped.

    Raises:
        ValueError: a patch that does not fit into the image.
    """
    if patch > min(images.shape[-2:]):
        raise ValueError(
            f"patches of {patch} px do not fit into images of "
            f"{images.shape[-2]} x {images.shape[-1]} px: give larger images or smaller patches"
        )
    windows = images.unfold(2, patch, stride).unfold(3, patch, stride)
    return windows.permute(0, 2, 3, 1, 4, 5)
