"""A small, fast ResNet for images of 28 to 96 px on a few CPU cores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.backbone import SMALL_IMAGE, ImageEncoder, Origin, pooled_stages

if TYPE_CHECKING:
    from jaxtyping import Float


class Block(nn.Module):
    """The basic residual block: ``relu(x + bn(conv(relu(bn(conv(x))))))``, He et al. 2016."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H / stride, W / stride]."""
        hidden = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(hidden)) + self.shortcut(x), inplace=True)


class SmallResNet(nn.Module):
    """Stem and stages of basic blocks, without a pooling layer or classifier."""

    def __init__(
        self,
        channels: int,
        *,
        widths: Sequence[int],
        blocks: Sequence[int],
        stem_kernel: int,
        stem_stride: int,
        stem_pool: bool,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(
                channels, widths[0], stem_kernel, stem_stride, (stem_kernel - 1) // 2, bias=False
            ),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1) if stem_pool else nn.Identity(),
        )
        stages: list[nn.Module] = []
        inputs = widths[0]
        for place, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            stage: list[nn.Module] = []
            for block in range(count):
                stride = 2 if place > 0 and block == 0 else 1
                stage.append(Block(inputs, width, stride=stride))
                inputs = width
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, widths[-1], H', W']."""
        return self.stages(self.stem(x))


class SmallEncoder(ImageEncoder):
    """`SmallResNet` as an encoder; `small_resnet` builds it."""

    def features(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        """[B, dim, H, W]."""
        return self.net(x)

    def stages(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """[B, widths[i]] each: the stem, then the stages."""
        net = self.net
        assert isinstance(net, SmallResNet)
        return pooled_stages(x, (net.stem, *net.stages))


def small_resnet(
    spec: ImageSpec,
    *,
    widths: Sequence[int] = (32, 64, 256),
    blocks: Sequence[int] = (1, 1, 1),
    stem_kernel: int | None = None,
    stem_stride: int | None = None,
    stem_pool: bool | None = None,
    zero_init_residual: bool = False,
) -> SmallEncoder:
    """Build a small ResNet: a stem, then stages that halve the side from the second on.

    Args:
        spec: the input.
        widths: channels of each stage; the last is ``dim``, the first also the stem's.
        blocks: basic blocks of each stage.
        stem_kernel: side of the first convolution; None: 3 under 64 px, else 7.
        stem_stride: its stride; None: 2.
        stem_pool: whether a 3x3 max-pool of stride 2 follows; None: from 64 px on.
        zero_init_residual: start each block as the identity (Goyal et al. 2017, section 5.1).

    Raises:
        ValueError: ``widths`` and ``blocks`` of other lengths, or values below 1.
    """
    if len(widths) != len(blocks) or not widths or min(*widths, *blocks) < 1:
        raise ValueError(
            f"widths={tuple(widths)} and blocks={tuple(blocks)}: give one positive number a stage "
            "in each"
        )
    large = spec.size >= SMALL_IMAGE
    net = SmallResNet(
        spec.channels,
        widths=widths,
        blocks=blocks,
        stem_kernel=stem_kernel or (7 if large else 3),
        stem_stride=stem_stride or 2,
        stem_pool=large if stem_pool is None else stem_pool,
    )
    if zero_init_residual:
        for module in net.modules():
            if isinstance(module, Block):
                nn.init.zeros_(module.norm2.weight)
    return SmallEncoder(net, dim=widths[-1], spec=spec, made=Origin(name="unlabeled/small_resnet"))
