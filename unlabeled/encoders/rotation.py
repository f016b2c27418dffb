"""RotationEncoder: an encoder with a head that says how a view is turned against another."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unlabeled.encoders.encoder import Encoder

if TYPE_CHECKING:
    from jaxtyping import Float


class RotationHead(nn.Module):
    """[anchor, turned] features to logits: Linear, BatchNorm, LeakyReLU, Linear (ROS, section 4).

    Args:
        dim: width of the features.
        hidden: width of the hidden layer, whose activations the center loss reads.
        outputs: 4, or 4 a class.
    """

    def __init__(self, dim: int, *, hidden: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * dim, hidden, bias=False), nn.BatchNorm1d(hidden), nn.LeakyReLU(0.2)
        )
        self.last = nn.Linear(hidden, outputs)

    def forward(
        self, anchor: Float[Tensor, "B d"], turned: Float[Tensor, "B d"]
    ) -> tuple[Float[Tensor, "B o"], Float[Tensor, "B h"]]:
        """Logits and hidden activations."""
        hidden = self.layers(torch.cat([anchor, turned], 1))
        return self.last(hidden), hidden


class RotationEncoder(Encoder):
    """A trunk and its rotation head, which a later stage needs; `rotation_encoder` builds it."""

    def __init__(self, trunk: Encoder, *, classes: int, hidden: int) -> None:
        super().__init__()
        self.trunk, self.dim, self.spec, self.prefix = trunk, trunk.dim, trunk.spec, trunk.prefix
        self.classes = classes
        self.rotation = RotationHead(trunk.dim, hidden=hidden * classes, outputs=4 * classes)

    def local(self, x: Any) -> Tensor:
        """The trunk's."""
        return self.trunk.local(x)

    def pool(self, local: Tensor) -> Tensor:
        """The trunk's."""
        return self.trunk.pool(local)


def rotation_encoder(
    spec: Any, *, base: Callable[[Any], Encoder], classes: int, hidden: int = 256
) -> RotationEncoder:
    """Build a `RotationEncoder`.

    Args:
        spec: the input.
        base: builds the trunk.
        classes: known ones; the head has 4 outputs for each.
        hidden: width of the head's hidden layer, a class.
    """
    return RotationEncoder(base(spec), classes=classes, hidden=hidden)
