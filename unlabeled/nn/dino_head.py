"""The head of DINO: a bottleneck on the sphere, then directions to compare it with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.ops.precision import autocast_off, upcast

if TYPE_CHECKING:
    from jaxtyping import Float


class WeightNormLinear(nn.Module):
    """``y_k = g_k z . v_k / |v_k|``: a linear layer without bias, weight-normalized by rows.

    Weight Normalization (arXiv:1602.07868, eq. 2). Output is float32 under mixed precision.

    Args:
        dim: width of z.
        count: rows k.
        learn_length: whether g is learned; else it is 1, and y are cosines for unit z.
    """

    def __init__(self, dim: int, count: int, *, learn_length: bool) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.empty(count, dim))
        nn.init.trunc_normal_(self.direction, std=0.02)
        self.length = nn.Parameter(torch.ones(count)) if learn_length else None

    def forward(self, z: Float[Tensor, "B D"], *, learns: float = 1.0) -> Float[Tensor, "B K"]:
        """[B, dim] -> [B, count]; with ``learns`` 0 the layer's own gradient is 0, z's is not."""
        with autocast_off(z):
            # of gradient 0 and not None: DDP waits for the latter
            direction = torch.lerp(self.direction.detach(), self.direction, learns)
            y = F.linear(upcast(z), F.normalize(upcast(direction), dim=1))
            if self.length is None:
                return y
            return y * torch.lerp(self.length.detach(), self.length, learns)


class DinoHead(nn.Module):
    """Linear, GELU, Linear, GELU, Linear to a bottleneck, unit length, `WeightNormLinear`.

    DINO (arXiv:2104.14294, appendix C); no batch norm; weights from N(0, 0.02^2), biases 0.

    Args:
        width: of the features.
        count: K, outputs.
        hidden: width of the two hidden layers.
        bottleneck: width of the vectors on the sphere.
        learn_length: of the last layer.
    """

    def __init__(
        self,
        width: int,
        count: int,
        *,
        hidden: int = 2048,
        bottleneck: int = 256,
        learn_length: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last = WeightNormLinear(bottleneck, count, learn_length=learn_length)

    def forward(self, h: Float[Tensor, "B W"], *, learns: float = 1.0) -> Float[Tensor, "B K"]:
        """[B, width] -> [B, count]; ``learns`` goes to the last layer."""
        z = F.normalize(upcast(self.layers(h)), dim=1)
        return self.last(z, learns=learns)
