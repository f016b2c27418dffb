"""Encoder: the network that training leaves behind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn


class Encoder(nn.Module, ABC):
    """``encoder(x) = pool(local(x))``: local features and one vector a sample.

    ``dim`` is the width of both (``local_dim`` that of ``local``, which differs only in networks
    that pool through a hidden layer, such as VGG and MobileNetV3); ``prefix`` the number of
    leading tokens of ``local`` that are no positions (a class token, registers). ``spec`` says
    what input the encoder takes, for images an ``ImageSpec``.
    """

    dim: int
    prefix: int = 0
    spec: Any

    @property
    def local_dim(self) -> int:
        """Width of ``local``; ``dim`` unless an encoder says otherwise."""
        return self.dim

    @abstractmethod
    def local(self, x: Any) -> Tensor:
        """[B, N, local_dim]: one feature a position, token, frame or node."""

    @abstractmethod
    def pool(self, local: Tensor) -> Tensor:
        """[B, N, local_dim] -> [B, dim]."""

    def maps(self, x: Any) -> Tensor:
        """[B, local_dim, H, W]: the local features on their grid; for encoders that have one."""
        raise ValueError(f"{type(self).__name__} has no grid of positions: use local(x)")

    def stages(self, x: Any) -> list[Tensor]:
        """[B, d_i] of each stage, the first one first: its features, averaged over positions.

        For encoders whose network has stages; where a stem comes before them, it is the first.
        """
        raise ValueError(
            f"{type(self).__name__} does not show its stages: use an encoder that does, such as "
            "small or timm/resnet18"
        )

    def forward(self, x: Any) -> Tensor:
        """[B, dim]."""
        return self.pool(self.local(x))
