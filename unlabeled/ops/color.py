"""Color spaces that part lightness from color. RGB is sRGB in [0, 1], channels in dim -3."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float

_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
"""Linear sRGB to CIE XYZ under D65; the row sums are white, so gray has no color at all."""
_YDBDR = ((0.299, 0.587, 0.114), (-0.45, -0.883, 1.333), (-1.333, 1.116, 0.217))
_KNEE, _SLOPE, _SHIFT = 0.008856, 7.787, 16 / 116  # of CIE Lab's cube root near black


def rgb_to_lab(rgb: Float[Tensor, "*B 3 H W"]) -> Float[Tensor, "*B 3 H W"]:
    """CIE 1976 L*a*b* of sRGB: L in [0, 100], a and b about -108 to 98, both 0 for gray.

    ``L = 116 f(Y) - 16, a = 500 (f(X) - f(Y)), b = 200 (f(Y) - f(Z))`` with X, Y, Z relative to
    white and f the cube root, linear near 0.
    """
    linear = torch.where(rgb > 0.04045, ((rgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4,
                         rgb / 12.92)  # fmt: skip
    matrix = rgb.new_tensor(_XYZ)
    xyz = _times(matrix / matrix.sum(1, keepdim=True), linear)
    root = torch.where(xyz > _KNEE, xyz.clamp(min=_KNEE) ** (1 / 3), _SLOPE * xyz + _SHIFT)
    x, y, z = root.unbind(-3)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -3)


def lab_to_rgb(lab: Float[Tensor, "*B 3 H W"]) -> Float[Tensor, "*B 3 H W"]:
    """Invert `rgb_to_lab`; colors that sRGB cannot show are clipped to [0, 1]."""
    light, a, b = lab.unbind(-3)
    y = (light + 16) / 116
    root = torch.stack([y + a / 500, y, y - b / 200], -3)
    edge = _SLOPE * _KNEE + _SHIFT
    xyz = torch.where(root > edge, root**3, (root - _SHIFT) / _SLOPE)
    matrix = lab.new_tensor(_XYZ)
    linear = _times(torch.linalg.inv(matrix / matrix.sum(1, keepdim=True)), xyz)
    bright = linear.clamp(min=0.0031308) ** (1 / 2.4) * 1.055 - 0.055
    return torch.where(linear > 0.0031308, bright, linear * 12.92).clamp(0, 1)


def rgb_to_ydbdr(rgb: Float[Tensor, "*B 3 H W"]) -> Float[Tensor, "*B 3 H W"]:
    """YDbDr, as SECAM has it: Y in [0, 1], Db and Dr in [-1.333, 1.333], both 0 for gray."""
    return _times(rgb.new_tensor(_YDBDR), rgb)


def _times(matrix: Tensor, x: Tensor) -> Tensor:
    """A 3 x 3 matrix times the channels, without autocast and without a product of matrices.

    Sums in a fixed order, so that a sample does not depend on its batch.
    """
    red, green, blue = x.unsqueeze(-4).unbind(-3)
    weights = matrix[:, :, None, None]
    return red * weights[:, 0] + green * weights[:, 1] + blue * weights[:, 2]
