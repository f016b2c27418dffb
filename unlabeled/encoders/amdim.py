"""AMDIM's encoder: wide residual blocks without padding, so that positions cannot be told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.backbone import ImageEncoder, Origin

if TYPE_CHECKING:
    from jaxtyping import Float

SIDES = (32, 64, 128)


class PooledBlock(nn.Module):
    """``conv1x1(relu(conv(x)))`` plus x, averaged over the same windows; no padding, no norm.

    New channels of the shortcut are zero, and the second convolution starts at zero
    (arXiv:1906.00910, section 3.4, and the authors' code).
    """

    def __init__(self, inputs: int, outputs: int, *, window: int, stride: int) -> None:
        super().__init__()
        self.window, self.stride, self.grown = window, stride, outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, window, stride, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 1, bias=False)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H', W']."""
        short = x if self.window == self.stride == 1 else F.avg_pool2d(x, self.window, self.stride)
        if self.grown:
            short = F.pad(short, (0, 0, 0, 0, 0, self.grown))
        return short + self.conv2(F.relu(self.conv1(x)))


def _stage(inputs: int, outputs: int, *, window: int, stride: int, depth: int) -> nn.Sequential:
    first = PooledBlock(inputs, outputs, window=window, stride=stride)
    rest = (PooledBlock(outputs, outputs, window=1, stride=1) for _ in range(depth - 1))
    return nn.Sequential(first, *rest)


class AmdimNet(nn.Module):
    """The encoder as three parts: to 7 x 7, on to 5 x 5, and, unless dim is None, to one vector.

    Sides of the maps: 128, 64, 62, 30, 14, 7; 5; 3, 1. Smaller images start at 64, or at 32, 30,
    14, 7 with one stage less. The maps have 8 times the first layer's channels, 4 times at 32 px.
    """

    def __init__(
        self, channels: int, *, side: int, width: int, depth: int, dim: int | None
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if side == 128:
            layers += [
                nn.Conv2d(channels, width, 5, 2, 2, padding_mode="reflect"),
                nn.ReLU(),
            ]
        layers += [nn.Conv2d(width if side == 128 else channels, width, 3), nn.ReLU()]
        layers += [PooledBlock(width, width, window=1, stride=1)]
        wide = width
        for window in (4, 2) if side == 32 else (4, 4, 2):
            layers.append(_stage(wide, 2 * wide, window=window, stride=2, depth=depth))
            wide *= 2
        self.to7 = nn.Sequential(*layers)
        self.to5 = _stage(wide, wide, window=3, stride=1, depth=depth)
        self.to1: nn.Module | None = None
        if dim is not None:
            self.to1 = nn.Sequential(
                _stage(wide, wide, window=3, stride=1, depth=depth),
                PooledBlock(wide, dim, window=3, stride=1),
                nn.BatchNorm2d(dim),
            )


class AmdimEncoder(ImageEncoder):
    """`AmdimNet` whose feature is its one vector; `amdim_encoder` builds it."""

    def __init__(self, net: AmdimNet, *, dim: int, map_dim: int, spec: ImageSpec) -> None:
        super().__init__(net, dim=dim, spec=spec, made=Origin(name="unlabeled/amdim_encoder"))
        self.map_dim = map_dim

    def scales(self, x: Float[Tensor, "b c s s"]) -> tuple[Tensor, Tensor, Tensor]:
        """Maps r1 [B, dim, 1, 1], r5 [B, map_dim, 5, 5] and r7 [B, map_dim, 7, 7]."""
        r7 = self.net.to7(x)  # type: ignore[operator]
        r5 = self.net.to5(r7)  # type: ignore[operator]
        return self.net.to1(r5), r5, r7  # type: ignore[operator]

    def features(self, x: Float[Tensor, "b c s s"]) -> Tensor:
        """[B, dim, 1, 1]."""
        return self.scales(x)[0]


class AmdimMap(ImageEncoder):
    """`AmdimNet` up to its last map that is not one vector; `amdim_map` builds it."""

    def features(self, x: Float[Tensor, "b c s s"]) -> Tensor:
        """[B, dim, 5, 5]."""
        return self.net.to5(self.net.to7(x))  # type: ignore[operator]


def amdim_encoder(spec: ImageSpec, *, width: int, depth: int, dim: int) -> AmdimEncoder:
    """Build AMDIM's encoder for 32, 64 or 128 px.

    Args:
        spec: the input.
        width: channels of the first layer; the maps have eight times as many, four at 32 px.
        depth: blocks a stage.
        dim: width of the vector, at least that of the maps.

    Raises:
        ValueError: images of another side, or too small a dim.
    """
    wide = _map_width(spec, width)
    if dim < wide:
        raise ValueError(f"dim is {dim}, the maps have {wide} channels: give at least as many")
    net = AmdimNet(spec.channels, side=spec.size, width=width, depth=depth, dim=dim)
    return AmdimEncoder(net, dim=dim, map_dim=wide, spec=spec)


def amdim_map(spec: ImageSpec, *, width: int, depth: int) -> AmdimMap:
    """Build AMDIM's encoder for 32, 64 or 128 px up to its 5 x 5 map, whose mean is the feature.

    Args:
        spec: the input.
        width: channels of the first layer; the map has eight times as many, four at 32 px.
        depth: blocks a stage.

    Raises:
        ValueError: images of another side.
    """
    wide = _map_width(spec, width)
    net = AmdimNet(spec.channels, side=spec.size, width=width, depth=depth, dim=None)
    return AmdimMap(net, dim=wide, spec=spec, made=Origin(name="unlabeled/amdim_map"))


def _map_width(spec: ImageSpec, width: int) -> int:
    if spec.size not in SIDES:
        raise ValueError(
            f"AMDIM's encoder has no padding and fits {', '.join(map(str, SIDES))} px, not "
            f"{spec.size}: give views of such a size, or another encoder"
        )
    return width * (4 if spec.size == 32 else 8)
