"""Encoders that see an image as a grid of patches, each on its own: CPC's networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.backbone import ImageEncoder, Origin
from unlabeled.ops.patches import cut_patches, grid_side, patch_sizes

if TYPE_CHECKING:
    pass

LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, as in views.ops


def no_norm(width: int) -> nn.Module:
    """Return no normalization: that of CPC, where any over the batch would leak."""
    return nn.Identity()


def layer_norm(width: int) -> nn.Module:
    """Return layer normalization over the channels and positions of a patch (CPC v2)."""
    return nn.GroupNorm(1, width)


class PreactBlock(nn.Module):
    """The pre-activation residual block of ResNet v2 (He et al. 2016, arXiv:1603.05027).

    ``x + conv(relu(norm(... conv(relu(norm(x))))))``; where shapes differ, x is replaced by a 1x1
    convolution of its activation.

    Args:
        inputs: channels.
        outputs: channels.
        hidden: channels of a bottleneck (1x1, 3x3, 1x1); None: two 3x3 convolutions.
        stride: of the first 3x3 convolution.
        norm: builds a normalization from a width.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        hidden: int | None,
        stride: int,
        norm: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        kernels = (3, 3) if hidden is None else (1, 3, 1)
        inner = outputs if hidden is None else hidden
        widths = (inputs, *[inner] * (len(kernels) - 1), outputs)
        self.norms = nn.ModuleList(norm(width) for width in widths[:-1])
        self.convs = nn.ModuleList(
            nn.Conv2d(
                widths[place],
                widths[place + 1],
                kernel,
                stride if place == kernels.index(3) else 1,
                kernel // 2,
            )
            for place, kernel in enumerate(kernels)
        )
        self.shortcut = None
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H / stride, W / stride]."""
        hidden = F.relu(self.norms[0](x))
        short = x if self.shortcut is None else self.shortcut(hidden)
        hidden = self.convs[0](hidden)
        for norm, conv in zip([*self.norms][1:], [*self.convs][1:], strict=True):
            hidden = conv(F.relu(norm(hidden)))
        return short + hidden


class PatchResNet(nn.Module):
    """A stem and stages of pre-activation blocks; the map of the last stage, not activated.

    Weights start by Kaiming's normal rule; the last convolution of each of n branches is divided
    by sqrt(n), so that the sum keeps its scale where nothing is normalized.
    """

    def __init__(
        self,
        channels: int,
        *,
        widths: Sequence[int],
        blocks: Sequence[int],
        hidden: Sequence[int] | None,
        stem_width: int,
        stem_kernel: int,
        stem_stride: int,
        stem_pool: bool,
        norm: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, stem_width, stem_kernel, stem_stride, stem_kernel // 2),
            nn.MaxPool2d(3, 2, 1) if stem_pool else nn.Identity(),
        )
        stages: list[PreactBlock] = []
        inputs = stem_width
        for place, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(count):
                stages.append(
                    PreactBlock(
                        inputs,
                        width,
                        hidden=None if hidden is None else hidden[place],
                        stride=2 if place > 0 and block == 0 else 1,
                        norm=norm,
                    )
                )
                inputs = width
        self.stages = nn.Sequential(*stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            for stage in stages:
                stage.convs[-1].weight.mul_(len(stages) ** -0.5)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, p, p] -> [B, widths[-1], p', p']."""
        return self.stages(self.stem(x))


class PatchEncoder(ImageEncoder):
    """A network applied to each patch of an image and averaged over the patch.

    ``local`` and ``maps`` are the latents z of the patches, and ``encoder(x)`` their mean. It also
    takes patches that are cut already, [B, rows, columns, C, p, p], as the views of patch methods
    give them. `patch_resnet` builds it.
    """

    def __init__(
        self,
        net: PatchResNet,
        *,
        dim: int,
        spec: ImageSpec,
        patch: int,
        stride: int,
        gray: bool,
    ) -> None:
        super().__init__(net, dim=dim, spec=spec, made=Origin(name="unlabeled/patch_resnet"))
        self.patch, self.stride, self.gray = patch, stride, gray
        self.rows = grid_side(spec.size, patch=patch, stride=stride)

    def features(self, x: Tensor) -> Tensor:
        """[B, dim, rows, columns], of images or of patches."""
        patches = x if x.ndim == 6 else cut_patches(x, patch=self.patch, stride=self.stride)
        batch, rows, columns = patches.shape[:3]
        flat = patches.flatten(0, 2).contiguous(memory_format=torch.channels_last)
        if self.gray and flat.shape[1] == 3:
            flat = (flat * flat.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        latents = self.net(flat).mean((2, 3))
        return latents.view(batch, rows, columns, -1).permute(0, 3, 1, 2)


def patch_resnet(
    spec: ImageSpec,
    *,
    widths: Sequence[int] = (256, 512, 1024),
    blocks: Sequence[int] = (3, 4, 23),
    hidden: Sequence[int] | None = (64, 128, 256),
    stem_width: int = 64,
    stem_kernel: int = 7,
    stem_stride: int = 2,
    stem_pool: bool = True,
    norm: Callable[[int], nn.Module] = no_norm,
    patch: float = 1 / 4,
    stride: float = 1 / 8,
    gray: bool = False,
) -> PatchEncoder:
    """Build a pre-activation ResNet that sees patches; the defaults are CPC's ResNet-v2-101.

    Cut after the third stage, without batch norm, 1024-d (arXiv:1807.03748, section 3.2).

    Args:
        spec: the input, whole images.
        widths: channels of each stage; the last is ``dim``.
        blocks: residual blocks of each stage.
        hidden: bottleneck width of each stage; None: blocks of two 3x3 convolutions.
        stem_width: channels of the first convolution.
        stem_kernel: its side.
        stem_stride: its stride.
        stem_pool: whether a 3x3 max-pool of stride 2 follows.
        norm: builds a normalization from a width: `no_norm`, `layer_norm`.
        patch: side of a patch as a share of the image's.
        stride: from one patch to the next, likewise.
        gray: whether RGB is turned into its luma first.

    Raises:
        ValueError: lists of different lengths, values below 1, or shares outside of (0, 1].
    """
    given = (widths, blocks) if hidden is None else (widths, blocks, hidden)
    if len({len(each) for each in given}) > 1 or not widths or min(map(min, given)) < 1:
        raise ValueError(
            f"widths={tuple(widths)}, blocks={tuple(blocks)} and hidden={hidden}: give one "
            "positive number a stage in each"
        )
    side, step = patch_sizes(spec.size, patch=patch, stride=stride)
    net = PatchResNet(
        1 if gray else spec.channels,
        widths=widths,
        blocks=blocks,
        hidden=hidden,
        stem_width=stem_width,
        stem_kernel=stem_kernel,
        stem_stride=stem_stride,
        stem_pool=stem_pool,
        norm=norm,
    )
    return PatchEncoder(net, dim=widths[-1], spec=spec, patch=side, stride=step, gray=gray)
