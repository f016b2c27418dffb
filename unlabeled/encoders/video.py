"""Encoders of clips that see each frame, or each patch of one, on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from unlabeled.data.videos import ClipSpec
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.small import SmallResNet

if TYPE_CHECKING:
    from jaxtyping import Float


class FrameEncoder(Encoder):
    """A network of images for the frames of clips; ``local`` are the frames' mean features.

    Args:
        net: [N, C, H, W] -> [N, dim, h, w], for frames and patches of any size.
        dim: width of its maps.
        spec: the input.
    """

    def __init__(self, net: nn.Module, *, dim: int, spec: ClipSpec) -> None:
        super().__init__()
        self.net, self.dim = net, dim
        self.spec: ClipSpec = spec

    def frame_maps(self, frames: Float[Tensor, "N C H W"]) -> Float[Tensor, "N dim h w"]:
        """[N, dim, h, w]: of frames or patches."""
        maps: Tensor = self.net(frames)
        return maps

    def local(self, x: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B T dim"]:
        """[B, T, dim]."""
        return self.frame_maps(x.flatten(0, 1)).mean((2, 3)).view(*x.shape[:2], -1)

    def pool(self, local: Float[Tensor, "B T dim"]) -> Float[Tensor, "B dim"]:
        """Mean over the frames."""
        return local.mean(1)


def reflecting(net: nn.Module) -> nn.Module:
    """Let convolutions see the frame mirrored beyond its edge; zeros would tell where it is."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.padding != (0, 0):
            module.padding_mode = "reflect"
    return net


def video_resnet18(spec: ClipSpec) -> FrameEncoder:
    """Build torchvision's ResNet-18 up to its third stage, which keeps the side: 256 wide.

    A position of its maps is 8 px.

    Args:
        spec: the input.
    """
    from torchvision.models import resnet18

    model = resnet18(weights=None)
    first = model.layer3[0]
    assert isinstance(first.downsample, nn.Sequential)
    for conv in (first.conv1, first.downsample[0]):
        conv.stride = (1, 1)
    parts = (model.conv1, model.bn1, model.relu, model.maxpool)
    net = nn.Sequential(*parts, model.layer1, model.layer2, model.layer3)
    return FrameEncoder(reflecting(net), dim=256, spec=spec)


def small_video(
    spec: ClipSpec, *, widths: tuple[int, ...] = (32, 64), blocks: tuple[int, ...] = (1, 1)
) -> FrameEncoder:
    """Build a small ResNet whose stem and each stage but the first halve the side.

    Args:
        spec: the input.
        widths: of the stages.
        blocks: of each stage.
    """
    net = SmallResNet(
        spec.image.channels,
        widths=widths,
        blocks=blocks,
        stem_kernel=3,
        stem_stride=2,
        stem_pool=False,
    )
    return FrameEncoder(reflecting(net), dim=widths[-1], spec=spec)
