"""SplitEncoder: one network for each group of an image's channels, such as lightness and color."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.encoder import Encoder
from unlabeled.ops.color import rgb_to_lab, rgb_to_ydbdr

if TYPE_CHECKING:
    from jaxtyping import Float

Convert = Callable[[Tensor], Tensor]

SPACES: dict[str, tuple[Convert, tuple[float, ...], tuple[float, ...]]] = {
    "lab": (rgb_to_lab, (50.0, 6.025, -6.6895), (50.0, 92.208, 101.1675)),
    "ydbdr": (rgb_to_ydbdr, (0.5, 0.0, 0.0), (0.5, 1.333, 1.333)),
}
"""Conversion, and what each channel is centered at and divided by: middle and half of its range
(CMC's code for Lab; YDbDr by the same rule)."""


class SplitEncoder(Encoder):
    """Independent encoders, each of its own channels; their features stand side by side.

    ``f(x) = [f_1(v_1), f_2(v_2), ...]`` (CMC, arXiv:1906.05849, section 3). It takes ordinary
    images, so a trained one serves wherever an encoder of RGB does. Networks of one
    architecture, whose grids agree.

    Args:
        parts: one encoder a group.
        groups: each part's channels after the conversion.
        convert: from the image in [0, 1] to the channels that are split; None keeps the input as
            it comes, normalized by the spec.
        center: of the converted channels.
        scale: they are divided by it.
        spec: of the whole input.

    Raises:
        ValueError: another number of groups than of parts, or grids of several widths.
    """

    def __init__(
        self,
        parts: Sequence[Encoder],
        *,
        groups: Sequence[Sequence[int]],
        convert: Convert | None,
        center: Sequence[float],
        scale: Sequence[float],
        spec: ImageSpec,
    ) -> None:
        super().__init__()
        if len(parts) != len(groups) or len(parts) < 2:
            raise ValueError(f"{len(parts)} parts for {len(groups)} groups: give one each, two up")
        self.parts = nn.ModuleList(parts)
        self.groups = [list(group) for group in groups]
        self.convert, self.spec = convert, spec
        self.dim = sum(part.dim for part in parts)
        for name, values in (
            ("mean", spec.mean), ("std", spec.std), ("center", center), ("scale", scale),
        ):  # fmt: skip
            self.register_buffer(name, torch.tensor(list(values))[:, None, None], persistent=False)

    @property
    def local_dim(self) -> int:
        """Width of ``local``: the parts' together."""
        return sum(part.local_dim for part in self._encoders)

    @property
    def _encoders(self) -> list[Encoder]:
        return [part for part in self.parts if isinstance(part, Encoder)]

    def split(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """Return each part's view of a batch of normalized images."""
        if self.convert is not None:
            pixels = (x * self.std + self.mean).clamp(0, 1)  # type: ignore[operator]
            x = (self.convert(pixels) - self.center) / self.scale  # type: ignore[operator]
        return [x[:, group] for group in self.groups]

    def local(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """[B, N, local_dim]: the parts' local features side by side."""
        views = self.split(x)
        pairs = zip(self._encoders, views, strict=True)
        return torch.cat([part.local(view) for part, view in pairs], -1)

    def pool(self, local: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        """[B, dim]: each part's own pooling."""
        own = local.split([part.local_dim for part in self._encoders], -1)
        pairs = zip(self._encoders, own, strict=True)
        return torch.cat([part.pool(rows) for part, rows in pairs], -1)

    def maps(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """[B, local_dim, H, W]: the parts' maps side by side."""
        views = self.split(x)
        return torch.cat(
            [part.maps(view) for part, view in zip(self._encoders, views, strict=True)], 1
        )


def color_split_encoder(
    spec: ImageSpec, *, part: Callable[[ImageSpec], Encoder], space: str = "lab"
) -> SplitEncoder:
    """Build a network of lightness and one of color: L and ab, or Y and DbDr.

    Args:
        spec: the input, RGB.
        part: builds a network from the spec of its channels.
        space: "lab" or "ydbdr".

    Raises:
        ValueError: the images are not RGB, or the space is unknown.
    """
    if spec.channels != 3:
        raise ValueError(
            f"the images have {spec.channels} channels: lightness and color are split in RGB, "
            "so use color images (such as --data emoji) or channel_split_encoder"
        )
    if space not in SPACES:
        raise ValueError(f"space is {space!r}: use {' or '.join(SPACES)}")
    convert, center, scale = SPACES[space]
    groups = ((0,), (1, 2))
    return SplitEncoder(
        [part(_spec(spec, group)) for group in groups],
        groups=groups,
        convert=convert,
        center=center,
        scale=scale,
        spec=spec,
    )


def channel_split_encoder(
    spec: ImageSpec, *, part: Callable[[ImageSpec], Encoder], groups: Sequence[Sequence[int]]
) -> SplitEncoder:
    """Build a network for each group of the input's own channels, such as RGB, depth, normals.

    Args:
        spec: the input.
        part: builds a network from the spec of its channels.
        groups: the channels of each network, such as ((0, 1, 2), (3,)).

    Raises:
        ValueError: a channel that the input does not have.
    """
    flat = [channel for group in groups for channel in group]
    if not flat or min(flat) < 0 or max(flat) >= spec.channels:
        raise ValueError(f"groups are {groups}: the images have channels 0 to {spec.channels - 1}")
    return SplitEncoder(
        [part(_spec(spec, group)) for group in groups],
        groups=groups,
        convert=None,
        center=(),
        scale=(),
        spec=spec,
    )


def _spec(spec: ImageSpec, group: Sequence[int]) -> ImageSpec:
    """The spec of some channels, which come centered and scaled."""
    count = len(group)
    return ImageSpec(channels=count, size=spec.size, mean=(0.0,) * count, std=(1.0,) * count)
