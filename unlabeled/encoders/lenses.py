"""Feature Lenses: modules that map a frozen network's features of a transformed image back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.backbone import ImageEncoder, dry_run
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.from_torchvision import TorchvisionEncoder
from unlabeled.encoders.small import SmallEncoder

if TYPE_CHECKING:
    from jaxtyping import Float

MIXTURES = 5
TURNS = (1, 2, 3)
_SELECTOR_SIDE = 7


class Exposed(NamedTuple):
    """What a residual network's last block shows: before its last convolution, and after."""

    pre_conv: Tensor
    shortcut: Tensor
    pre_relu: Tensor


class MixConv(nn.Module):
    """A convolution whose outputs are mixtures: ``sum_m softmax(v)_m v_m`` of components v_m.

    The weights are the softmax of the responses themselves, for each position and channel
    (arXiv:2004.05554, and the authors' code). Xavier-uniform weights.
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs * MIXTURES, kernel, padding=padding)
        nn.init.xavier_uniform_(self.conv.weight)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        """[B, inputs, H, W] -> [B, outputs, H, W]."""
        v = self.conv(x).unflatten(1, (MIXTURES, -1))
        return (v.softmax(1) * v).sum(1)


class RotationLens(nn.Module):
    """Main part plus a simulated residual, a batch norm, then the inverse rotation of the map."""

    def __init__(self, host_conv: nn.Conv2d, *, shortcut: int, turns: int) -> None:
        super().__init__()
        width = host_conv.out_channels
        self.mix = MixConv(
            host_conv.in_channels + shortcut,
            2 * width,
            kernel=host_conv.kernel_size[0],
            padding=int(host_conv.padding[0]),
        )
        self.norm = nn.BatchNorm2d(width)
        self.turns = turns

    def forward(self, exposed: Exposed, size: tuple[int, int]) -> Tensor:
        """[B, C, H, W] before the ReLU, in the geometry of the upright image."""
        main, residual = self.mix(torch.cat(exposed[:2], 1)).chunk(2, 1)
        return torch.rot90(self.norm(main + residual.relu()), -self.turns, (2, 3))


class ScaleLens(nn.Module):
    """Two layers that double the map, and the enlarged original beside them."""

    def __init__(self, host_conv: nn.Conv2d, *, shortcut: int, scale: float) -> None:
        super().__init__()
        width = host_conv.out_channels
        self.scale = scale
        self.mix = MixConv(host_conv.in_channels + shortcut, width, kernel=1, padding=0)
        self.norm1 = nn.BatchNorm2d(width)
        padding = 1 if scale > 0.4 else 0  # 4 -> 7 from half the size, 3 -> 7 from a third
        self.deconv = nn.ConvTranspose2d(width, width, 3, stride=2, padding=padding)
        self.norm2 = nn.BatchNorm2d(width)
        self.weights = nn.Parameter(torch.full((2,), 0.5))
        self.norm = nn.BatchNorm2d(width)

    def forward(self, exposed: Exposed, size: tuple[int, int]) -> Tensor:
        """[B, C, *size] before the ReLU."""
        hidden = self.norm1(self.mix(torch.cat(exposed[:2], 1))).relu()
        own = self.norm2(self.deconv(hidden, output_size=list(size)))
        enlarged = F.interpolate(exposed.pre_relu, size=size, mode="bilinear", align_corners=True)
        weights = self.weights.clamp(min=1e-4)
        weights = weights * (weights.sum().clamp(1, 2) / weights.sum())
        return self.norm(weights[0] * own + weights[1] * enlarged)


class LensEncoder(Encoder):
    """A frozen host with a lens for each transformation, and a selector that tells rotations.

    Upright images pass the host alone; a turned one passes the lens of the rotation that the
    selector sees in it, a reduced one that of its size. The output is in the host's own space,
    so that what was built on the host serves unchanged.

    Args:
        host: a residual network.
        scales: sizes of reduced images, as shares of the side.
        size: height and width of the host's map of an image of the spec's size.

    Raises:
        ValueError: the host has no last residual block that is known here.
    """

    def __init__(
        self, host: ImageEncoder, *, scales: Sequence[float], size: tuple[int, int]
    ) -> None:
        super().__init__()
        self.size = size
        self.host = host.requires_grad_(False)
        self.dim, self.spec = host.dim, host.spec
        conv = _last_conv(_last_block(host))
        shape = {"shortcut": conv.out_channels}
        self.rotations = nn.ModuleList(RotationLens(conv, **shape, turns=t) for t in TURNS)
        self.scales = nn.ModuleList(ScaleLens(conv, **shape, scale=s) for s in scales)
        self.selector_side = min(_SELECTOR_SIDE, *size)
        flat = (conv.in_channels + conv.out_channels) * self.selector_side**2
        self.selector = nn.Linear(flat, 1 + len(TURNS))
        nn.init.zeros_(self.selector.weight)
        nn.init.zeros_(self.selector.bias)

    def train(self, mode: bool = True) -> LensEncoder:
        """Set the mode of the lenses; the host stays in eval mode."""
        super().train(mode)
        self.host.eval()
        return self

    @torch.no_grad()
    def expose(self, x: Float[Tensor, "b c h w"]) -> Exposed:
        """Return what the host's last block shows of images of any size."""
        return _expose(self.host, x)

    def turned(self, exposed: Exposed, turns: Tensor) -> Float[Tensor, "b d h w"]:
        """[B, dim, H, W] before the ReLU: each map through the lens of its quarter turns."""
        found = exposed.pre_relu.clone()
        size = (found.shape[2], found.shape[3])
        lenses: list[RotationLens] = list(self.rotations)  # type: ignore[arg-type]
        for lens in lenses:
            rows = torch.nonzero(turns == lens.turns)[:, 0]
            if len(rows):
                part = Exposed(*(value[rows] for value in exposed))
                found = found.index_copy(0, rows, lens(part, size).to(found.dtype))
        return found

    def rotation_logits(self, exposed: Exposed) -> Float[Tensor, "b 4"]:
        """Score each number of quarter turns, from [pre_conv, shortcut] at 7 x 7 or their size."""
        seen = F.adaptive_avg_pool2d(torch.cat(exposed[:2], 1), self.selector_side)
        return self.selector(seen.flatten(1))

    def maps(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """[B, dim, H, W], in the geometry of the upright image of the spec's size."""
        exposed = self.expose(x)
        ratio = x.shape[-1] / self.spec.size
        lenses: list[ScaleLens] = list(self.scales)  # type: ignore[arg-type]
        nearest = min([1.0, *(lens.scale for lens in lenses)], key=lambda s: abs(s - ratio))
        for lens in lenses:
            if lens.scale == nearest:
                return lens(exposed, self.size).relu()
        return self.turned(exposed, self.rotation_logits(exposed).argmax(1)).relu()

    def local(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """[B, N, dim]: positions in row order."""
        return self.maps(x).flatten(2).mT

    def pool(self, local: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        """[B, dim], as the host pools."""
        return self.host.pool(local)


def lens_encoder(
    spec: ImageSpec,
    *,
    host: Callable[[ImageSpec], ImageEncoder],
    scales: Sequence[float] = (0.5, 0.33),
) -> LensEncoder:
    """Build a host, random weights, with lenses for three rotations and for ``scales``."""
    shape = dry_run(lambda: host(spec), lambda net, x: net.maps(x), spec=spec).shape  # type: ignore[operator]
    return LensEncoder(host(spec), scales=scales, size=(shape[2], shape[3]))


def _last_block(host: ImageEncoder) -> Any:
    net: Any = host.net
    if isinstance(host, SmallEncoder):
        return net.stages[-1][-1]
    if isinstance(host, TorchvisionEncoder) and type(net).__name__ == "ResNet":
        return net.layer4[-1]
    raise ValueError(
        f"{host.origin} has no last residual block that lenses know: use small_resnet or a "
        "torchvision ResNet such as torchvision/resnet50"
    )


def _last_conv(block: Any) -> nn.Conv2d:
    return [part for part in block.children() if isinstance(part, nn.Conv2d)][-1]


def _expose(host: ImageEncoder, x: Tensor) -> Exposed:
    """Run a host up to its last block, and that block step by step."""
    net: Any = host.net
    block = _last_block(host)
    if isinstance(host, SmallEncoder):
        x = net.stages[-1][:-1](net.stages[:-1](net.stem(x)))
        pre_conv, shortcut = block.norm1(block.conv1(x)).relu(), block.shortcut(x)
        return Exposed(pre_conv, shortcut, block.norm2(block.conv2(pre_conv)) + shortcut)
    x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
    x = net.layer4[:-1](net.layer3(net.layer2(net.layer1(x))))
    shortcut = x if block.downsample is None else block.downsample(x)
    hidden = block.bn1(block.conv1(x)).relu()
    if _last_conv(block) is block.conv2:
        return Exposed(hidden, shortcut, block.bn2(block.conv2(hidden)) + shortcut)
    pre_conv = block.bn2(block.conv2(hidden)).relu()
    return Exposed(pre_conv, shortcut, block.bn3(block.conv3(pre_conv)) + shortcut)
