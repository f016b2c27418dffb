"""The networks of BigGAN and BigBiGAN: generator, image trunk, self-attention, residual MLPs.

BigGAN is arXiv:1809.11096 (appendix B for the architecture at 128 px).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

if TYPE_CHECKING:
    from jaxtyping import Float

CLASS_DIM = 128


def spectral(layer: nn.Module) -> nn.Module:
    """Start a layer orthogonal, without bias, and divide its weight by its largest singular value.

    One power iteration a forward pass in training mode (Miyato et al., arXiv:1802.05957).
    """
    assert isinstance(layer.weight, Tensor)
    nn.init.orthogonal_(layer.weight)
    if isinstance(layer.bias, Tensor):
        nn.init.zeros_(layer.bias)
    return spectral_norm(layer)


def spectral_conv(inputs: int, outputs: int, kernel: int, *, bias: bool = True) -> nn.Module:
    """A convolution that keeps the side, spectrally normalized."""
    return spectral(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias))


def spectral_linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Module:
    """A linear layer, spectrally normalized."""
    return spectral(nn.Linear(inputs, outputs, bias=bias))


def normed_linear(inputs: int, outputs: int) -> nn.Module:
    """A linear layer and a batch norm."""
    return nn.Sequential(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs))


# Residual MLPs ------------------------------------------------------------------------------------


class ResidualMLP(nn.Module):
    """``h <- S h + W2 relu(W1 relu(h))`` a block, S the identity where widths agree; then a relu.

    The first block takes its input as it is. The latent parts of BigBiGAN, arXiv:1907.02544.

    Args:
        inputs: width of the input.
        width: of everything after it.
        blocks: of two layers each.
        linear: makes a layer from two widths.
    """

    def __init__(
        self, inputs: int, width: int, *, blocks: int, linear: Callable[[int, int], nn.Module]
    ) -> None:
        super().__init__()
        if blocks < 1:
            raise ValueError(f"blocks is {blocks}: give at least 1")
        self.dim = width
        sizes = [inputs] + [width] * blocks
        self.first = nn.ModuleList(linear(one, other) for one, other in pairwise(sizes))
        self.second = nn.ModuleList(linear(width, width) for _ in range(blocks))
        self.shortcut = linear(inputs, width) if inputs != width else nn.Identity()

    def forward(self, x: Float[Tensor, "B inputs"]) -> Float[Tensor, "B width"]:
        """[B, inputs] -> [B, width], not negative."""
        for place, (first, second) in enumerate(zip(self.first, self.second, strict=True)):
            inner = x if place == 0 else F.relu(x)
            skipped = self.shortcut(x) if place == 0 else x
            x = skipped + second(F.relu(first(inner)))
        return F.relu(x)


# Images -------------------------------------------------------------------------------------------


class SelfAttention(nn.Module):
    """``x + gamma o(softmax(q k) v)`` over all positions, keys and values pooled to half the side.

    gamma starts at 0 (Zhang et al., arXiv:1805.08318); widths are those of BigGAN's code: an eighth
    of the channels for queries and keys, half for values.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow, wide = max(1, channels // 8), max(1, channels // 2)
        self.query = spectral_conv(channels, narrow, 1, bias=False)
        self.key = spectral_conv(channels, narrow, 1, bias=False)
        self.value = spectral_conv(channels, wide, 1, bias=False)
        self.out = spectral_conv(wide, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """[B, C, H, W] -> the same."""
        query = self.query(x).flatten(2)
        key = F.max_pool2d(self.key(x), 2).flatten(2)
        value = F.max_pool2d(self.value(x), 2).flatten(2)
        weight = (query.mT @ key).softmax(-1)
        seen = (value @ weight.mT).unflatten(2, x.shape[2:])
        return x + self.gamma * self.out(seen)


class ConditionalNorm(nn.Module):
    """Batch norm whose scale and center are linear in a condition: ``(1 + G c) bn(x) + B c``."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale = spectral_linear(condition, channels, bias=False)
        self.center = spectral_linear(condition, channels, bias=False)

    def forward(
        self, x: Float[Tensor, "B C H W"], c: Float[Tensor, "B D"]
    ) -> Float[Tensor, "B C H W"]:
        """[B, C, H, W] and [B, D] -> [B, C, H, W]."""
        scale, center = self.scale(c)[:, :, None, None], self.center(c)[:, :, None, None]
        return (1 + scale) * self.norm(x) + center


class UpBlock(nn.Module):
    """Norm, relu, twice the side, convolution, norm, relu, convolution, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        self.norm1 = ConditionalNorm(inputs, condition)
        self.norm2 = ConditionalNorm(outputs, condition)
        # no biases: the norms that follow would subtract them
        self.conv1 = spectral_conv(inputs, outputs, 3, bias=False)
        self.conv2 = spectral_conv(outputs, outputs, 3, bias=False)
        self.shortcut = spectral_conv(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """[B, inputs, H, W] and the condition -> [B, outputs, 2H, 2W]."""
        hidden = self.conv1(F.interpolate(F.relu(self.norm1(x, c)), scale_factor=2.0))
        hidden = self.conv2(F.relu(self.norm2(hidden, c)))
        return hidden + F.interpolate(self.shortcut(x), scale_factor=2.0)


class Generator(nn.Module):
    """Latents to images in (-1, 1), as BigGAN's generator for a data set of one class.

    The latent is cut into a part for the first layer and one for each block; a block's batch norms
    see its part beside the embedding of the class, which all images share.

    Args:
        channels: of the image.
        size: its side, a multiple of 2 to the number of blocks.
        widths: channels before the first block and after each.
        latent: width of z.
        attention: self-attention where the side is the image's divided by this; None for none.

    Raises:
        ValueError: a size that the blocks do not reach, or an attention at no block's output.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        *,
        widths: Sequence[int] = (1536, 1536, 768, 384, 192, 96),
        latent: int = 120,
        attention: int | None = 2,
    ) -> None:
        super().__init__()
        blocks = len(widths) - 1
        if blocks < 1 or size % 2**blocks:
            raise ValueError(
                f"{size} px is no multiple of {2**blocks}, which {blocks} blocks multiply the side "
                "by: give another size of the views or other widths"
            )
        self.channels, self.size, self.latent = channels, size, latent
        self.start = size // 2**blocks
        self.parts = [
            len(part) for part in torch.arange(latent, device="cpu").tensor_split(blocks + 1)
        ]
        self.embedding = nn.Parameter(torch.randn(CLASS_DIM) / CLASS_DIM**0.5)
        self.linear = spectral_linear(self.parts[0], widths[0] * self.start**2)
        self.blocks = nn.ModuleList(
            UpBlock(one, other, CLASS_DIM + part)
            for (one, other), part in zip(pairwise(widths), self.parts[1:], strict=True)
        )
        self.attention = _attention(widths[1:], [2**i for i in reversed(range(blocks))], attention)
        self.norm = nn.BatchNorm2d(widths[-1])
        self.image = spectral_conv(widths[-1], channels, 3)

    def forward(self, z: Float[Tensor, "B latent"]) -> Float[Tensor, "B C S S"]:
        """[B, latent] -> [B, channels, size, size]."""
        first, *rest = z.split(self.parts, 1)
        shared = self.embedding.to(z.dtype).expand(len(z), -1)
        x = self.linear(first).unflatten(1, (-1, self.start, self.start))
        for block, attention, part in zip(self.blocks, self.attention, rest, strict=True):
            x = attention(block(x, torch.cat([shared, part], 1)))
        return self.image(F.relu(self.norm(x))).tanh()


class DownBlock(nn.Module):
    """Relu (not in the first block), convolution, relu, convolution, half the side, a shortcut."""

    def __init__(self, inputs: int, outputs: int, *, first: bool, down: bool) -> None:
        super().__init__()
        self.conv1 = spectral_conv(inputs, outputs, 3)
        self.conv2 = spectral_conv(outputs, outputs, 3)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = spectral_conv(inputs, outputs, 1)
        self.first, self.down = first, down

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H / 2, W / 2], or the same side."""
        hidden = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        # pooling and a 1x1 convolution commute; the smaller one is computed
        return self._half(hidden) + self.shortcut(self._half(x))

    def _half(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2) if self.down else x


class ImageTrunk(nn.Module):
    """Images to features, as BigGAN's discriminator up to its sum over positions.

    Every block but the last halves the side.

    Args:
        channels: of the image.
        widths: channels after each block; the last is ``dim``.
        attention: self-attention where the side is the image's divided by this; None for none.
    """

    def __init__(
        self,
        channels: int,
        *,
        widths: Sequence[int] = (96, 192, 384, 768, 1536, 1536),
        attention: int | None = 2,
    ) -> None:
        super().__init__()
        self.dim = widths[-1]
        sizes = [channels, *widths]
        last = len(widths) - 1
        self.blocks = nn.ModuleList(
            DownBlock(one, other, first=place == 0, down=place < last)
            for place, (one, other) in enumerate(pairwise(sizes))
        )
        shares = [2 ** min(place + 1, last) for place in range(last + 1)]
        self.attention = _attention(widths, shares, attention)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B dim"]:
        """[B, channels, H, W] -> [B, dim]."""
        for block, attention in zip(self.blocks, self.attention, strict=True):
            x = attention(block(x))
        return F.relu(x).sum((2, 3))


def _attention(widths: Sequence[int], shares: Sequence[int], at: int | None) -> nn.ModuleList:
    """Self-attention after the block whose output has the side divided by ``at``."""
    if at is not None and at not in shares:
        raise ValueError(
            f"attention is {at}: give {', '.join(map(str, sorted(set(shares))))} or None"
        )
    place = None if at is None else shares.index(at)
    return nn.ModuleList(
        SelfAttention(width) if i == place else nn.Identity() for i, width in enumerate(widths)
    )


# Pairs -------------------------------------------------------------------------------------------


class Scores(NamedTuple):
    """[B] each: of images, of latents, and of pairs."""

    x: Tensor
    z: Tensor
    xz: Tensor


class JointDiscriminator(nn.Module):
    """Linear scores of ``F(x)``, of ``H(z)`` and of ``J(F(x), H(z))``.

    Of BigBiGAN, arXiv:1907.02544, section 2.

    Args:
        trunk: F.
        latent: width of z.
        width: of H and J.
        blocks: of two layers each, in H and J.
    """

    def __init__(self, trunk: ImageTrunk, *, latent: int, width: int, blocks: int) -> None:
        super().__init__()
        mlp = partial(ResidualMLP, blocks=blocks, linear=spectral_linear)
        self.image, self.latent = trunk, mlp(latent, width)
        self.joint = mlp(trunk.dim + width, width)
        self.score_x, self.score_z, self.score_xz = (
            spectral_linear(dim, 1, bias=False) for dim in (trunk.dim, width, width)
        )

    def forward(self, x: Tensor, z: Tensor) -> Scores:
        """[B, C, S, S] and [B, D] -> three scores a pair."""
        image, latent = self.image(x), self.latent(z)
        joint = self.joint(torch.cat([image, latent], 1))
        return Scores(
            self.score_x(image)[:, 0], self.score_z(latent)[:, 0], self.score_xz(joint)[:, 0]
        )
