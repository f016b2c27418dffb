"""PWC-lite: a pyramid of features, and one decoder of flow that all its levels share."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.pairs import PairSpec
from unlabeled.encoders.encoder import Encoder
from unlabeled.ops.warp import warp

if TYPE_CHECKING:
    from jaxtyping import Float


def conv(inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """3 x 3, with a leaky ReLU of 0.1."""
    layer = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=dilation, dilation=dilation)
    return nn.Sequential(layer, nn.LeakyReLU(0.1, inplace=True))


def correlation(
    x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"], *, radius: int
) -> Float[Tensor, "B D H W"]:
    """``mean_c x(p) y(p + d)`` for the ``(2 radius + 1)^2`` shifts d, row by row; zeros outside."""
    height, width = x.shape[2:]
    padded = F.pad(y, (radius, radius, radius, radius))
    side = range(2 * radius + 1)
    return torch.stack(
        [
            (x * padded[:, :, down : down + height, right : right + width]).mean(1)
            for down in side
            for right in side
        ],
        1,
    )


class Decoder(nn.Module):
    """Flow at a level from its matching costs, features and the flow of the level before.

    Each convolution sees the two before it alone.

    Args:
        inputs: channels.
        widths: of the convolutions.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        sizes = [inputs, *widths]
        self.convs = nn.ModuleList(
            conv(sizes[place] + (sizes[place - 1] if place > 1 else 0), width)
            for place, width in enumerate(widths)
        )
        self.predict = nn.Conv2d(sizes[-1] + sizes[-2], 2, 3, padding=1)
        self.dim = sizes[-1] + sizes[-2]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the context network sees, and the flow."""
        seen = [self.convs[0](x)]
        seen.append(self.convs[1](seen[0]))
        for layer in list(self.convs)[2:]:
            seen.append(layer(torch.cat(seen[-2:], 1)))
        last = torch.cat(seen[-2:], 1)
        return last, self.predict(last)


class PwcLite(Encoder):
    """Flow of pairs [B, 2, 3, H, W], and as an encoder the features of the first frames.

    The decoder stops at the finest pyramid level but ``skip``; flow of full size is that of the
    level, enlarged (Liu et al. 2020, section 3.4).

    Args:
        spec: the input.
        widths: of the pyramid, each level half as large as the one before.
        decoder: widths of the decoder.
        context: widths of the context network.
        radius: of the correlation, in px of each level.
        features: what each level's features are brought to.
        skip: levels above the finest that is decoded.
    """

    def __init__(
        self,
        spec: PairSpec,
        *,
        widths: tuple[int, ...],
        decoder: tuple[int, ...],
        context: tuple[int, ...],
        radius: int,
        features: int,
        skip: int,
    ) -> None:
        super().__init__()
        self.dim, self.radius, self.skip = widths[-1], radius, skip
        self.unit = 2 ** len(widths)
        self.spec: PairSpec = replace(spec, unit=self.unit)
        self.levels = nn.ModuleList(
            nn.Sequential(conv(inputs, width, stride=2), conv(width, width))
            for inputs, width in pairwise((3, *widths))
        )
        self.reduce = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, features, 1), nn.LeakyReLU(0.1, inplace=True))
            for width in widths[skip:]
        )
        self.decoder = Decoder((2 * radius + 1) ** 2 + features + 2, decoder)
        dilations = (1, 2, 4, 8, 16, *[1] * len(context))[: len(context)]
        self.context = nn.Sequential(
            *(
                conv(inputs, width, dilation=dilation)
                for (inputs, width), dilation in zip(
                    pairwise((self.decoder.dim + 2, *context)), dilations, strict=True
                )
            ),
            nn.Conv2d(context[-1], 2, 3, padding=1),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def pyramid(self, frames: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        """Features of each level, the finest first."""
        found, x = [], frames
        for level in self.levels:
            x = level(x)
            found.append(x)
        return found

    def flows(self, pairs: Float[Tensor, "B 2 3 H W"]) -> list[Tensor]:
        """Flow from the first to the second frames in px, from full size to the coarsest.

        Each [B, 2, H / 2^i, W / 2^i], in px of its own size. The frames' sides are multiples of
        ``unit``.
        """
        batch = len(pairs)
        # zero-centered, as a network without normalization wants it
        features = self.pyramid(pairs.flatten(0, 1) - 0.5)
        scale = 2 ** (self.skip + 1)
        found: list[Tensor] = []
        flow: Tensor | None = None
        for reduce, level in reversed(list(zip(self.reduce, features[self.skip :], strict=True))):
            x, y = level.view(batch, 2, *level.shape[1:]).unbind(1)
            if flow is None:
                flow = x.new_zeros(batch, 2, *x.shape[2:])
            else:
                flow = 2 * resize(flow, (x.shape[2], x.shape[3]))
                y = warp(y, flow, padding="zeros")
            costs = F.leaky_relu(correlation(x, y, radius=self.radius), 0.1)
            seen, change = self.decoder(torch.cat([costs, reduce(x), flow], 1))
            flow = flow + change
            flow = flow + self.context(torch.cat([seen, flow], 1))
            size = (scale * flow.shape[2], scale * flow.shape[3])
            found.append(scale * resize(flow, size))
        return found[::-1]

    def flow(self, pairs: Float[Tensor, "B 2 3 H W"]) -> Float[Tensor, "B 2 H W"]:
        """Flow in px of frames of any size, enlarged to the next multiples of ``unit``."""
        height, width = pairs.shape[3:]
        size = [-(-side // self.unit) * self.unit for side in (height, width)]
        if size != [height, width]:
            frames = resize(pairs.flatten(0, 1), (size[0], size[1]))
            flow = resize(self.flows(frames.view(-1, 2, 3, *size))[0], (height, width))
            return flow * flow.new_tensor([width / size[1], height / size[0]])[:, None, None]
        return self.flows(pairs)[0]

    def local(self, x: Float[Tensor, "B 2 3 H W"]) -> Float[Tensor, "B N dim"]:
        """[B, N, dim] of the first frames, at the coarsest level."""
        return self.maps(x).flatten(2).mT

    def maps(self, x: Float[Tensor, "B 2 3 H W"]) -> Float[Tensor, "B dim h w"]:
        """[B, dim, H / unit, W / unit]."""
        return self.pyramid(x[:, 0] - 0.5)[-1]

    def pool(self, local: Float[Tensor, "B N dim"]) -> Float[Tensor, "B dim"]:
        """Mean over the positions."""
        return local.mean(1)


def resize(x: Float[Tensor, "B C H W"], size: tuple[int, int]) -> Tensor:
    """Bilinear, corners on corners."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def pwc_lite(
    spec: PairSpec,
    *,
    widths: tuple[int, ...] = (16, 32, 64, 96, 128, 192),
    decoder: tuple[int, ...] = (128, 128, 96, 64, 32),
    context: tuple[int, ...] = (128, 128, 128, 96, 64, 32),
    radius: int = 4,
    features: int = 32,
    skip: int = 1,
) -> PwcLite:
    """Build PWC-lite; with the defaults 2.2 million weights, decoded down to a quarter.

    Args:
        spec: the input.
        widths: of the pyramid.
        decoder: widths of the decoder's convolutions.
        context: widths of the context network's.
        radius: of the correlation.
        features: of each level, as the decoder sees them.
        skip: levels of the pyramid that are not decoded, the finest ones.
    """
    return PwcLite(
        spec,
        widths=widths,
        decoder=decoder,
        context=context,
        radius=radius,
        features=features,
        skip=skip,
    )
