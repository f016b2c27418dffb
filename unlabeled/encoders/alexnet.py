"""AlexNet's convolutions, as the first self-supervised papers have them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.backbone import (
    ImageEncoder,
    Origin,
    dry_run,
    pooled_stages,
    refuse,
)

if TYPE_CHECKING:
    from jaxtyping import Float


class AlexNet(nn.Module):
    """conv1 to pool5 in Caffe's form: two groups, local response norm, pools rounded up.

    96@11, 256@5, 384@3, 384@3, 256@3; weights from N(0, 0.01^2), biases 1 in conv2, conv4, conv5
    and 0 in the others (Krizhevsky et al. 2012, section 5).

    Args:
        channels: of the images.
        stride: of conv1.
        tile: images of at most so many pixels a side are tiles, which have too few for it.
        tile_stride: of conv1 on tiles.
    """

    def __init__(self, channels: int, *, stride: int, tile: int, tile_stride: int) -> None:
        super().__init__()
        self.stride, self.tile, self.tile_stride = stride, tile, tile_stride
        self.conv1 = nn.Conv2d(channels, 96, 11)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=2)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75)
        for number, conv in enumerate(self.convolutions, 1):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.constant_(conv.bias, float(number in (2, 4, 5)))  # type: ignore[arg-type]

    @property
    def convolutions(self) -> tuple[nn.Conv2d, ...]:
        """conv1 to conv5."""
        return self.conv1, self.conv2, self.conv3, self.conv4, self.conv5

    def first(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, 96, H', W']: conv1 with the stride that the size asks for."""
        stride = self.tile_stride if max(x.shape[-2:]) <= self.tile else self.stride
        return F.relu(F.conv2d(x, self.conv1.weight, self.conv1.bias, stride))

    def second(self, x: Tensor) -> Tensor:
        """[B, 96, H, W] -> [B, 256, H', W']."""
        return F.relu(self.conv2(self.norm(self.pool(x))))

    def third(self, x: Tensor) -> Tensor:
        """[B, 256, H, W] -> [B, 384, H', W']."""
        return F.relu(self.conv3(self.norm(self.pool(x))))

    def fourth(self, x: Tensor) -> Tensor:
        """[B, 384, H, W] -> [B, 384, H, W]."""
        return F.relu(self.conv4(x))

    def fifth(self, x: Tensor) -> Tensor:
        """[B, 384, H, W] -> [B, 256, H, W]."""
        return F.relu(self.conv5(x))

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, 256, H', W']: pool5, 6 x 6 of 227 px and 3 x 3 of 64 px."""
        return self.pool(self.fifth(self.fourth(self.third(self.second(self.first(x))))))


class AlexNetEncoder(ImageEncoder):
    """`AlexNet` as an encoder; `alexnet` builds it."""

    def features(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        """[B, 256, H, W]."""
        return self.net(x)

    def stages(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """[B, d_i] each: conv1 to conv5, before the pools."""
        net = self.net
        assert isinstance(net, AlexNet)
        return pooled_stages(x, (net.first, net.second, net.third, net.fourth, net.fifth))


def alexnet(
    spec: ImageSpec, *, stride: int = 4, tile: int = 64, tile_stride: int = 2
) -> AlexNetEncoder:
    """Build AlexNet's convolutions.

    Args:
        spec: the input.
        stride: of conv1 on whole images.
        tile: the largest side in pixels that is read with ``tile_stride`` (Jigsaw,
            arXiv:1603.09246, section 4: stride 2 for tiles, 4 for transfer); 0 for none.
        tile_stride: of conv1 on tiles.

    Raises:
        ValueError: images of which nothing is left after the last pool.
    """
    origin = "unlabeled/alexnet"
    build = partial(AlexNet, spec.channels, stride=stride, tile=tile, tile_stride=tile_stride)
    try:
        dry_run(build, _forward, spec=spec)
    except RuntimeError as error:
        raise refuse(origin, spec, error) from error
    return AlexNetEncoder(build(), dim=256, spec=spec, made=Origin(name=origin))


def _forward(net: nn.Module, x: Tensor) -> Tensor:
    return net(x)
