"""ImageEncoder: what all image encoders share, whichever library their network comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.encoder import Encoder

if TYPE_CHECKING:
    from jaxtyping import Float

STEMS = ("auto", "small", "standard")
SMALL_IMAGE = 64
"""Below this side in pixels ``stem="auto"`` takes the small stem where the network has one."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a network comes from and how to make it again.

    Args:
        name: ``library/architecture``, such as ``timm/resnet50``.
        arguments: what the library's factory gets besides the architecture.
        steps: Python lines that then turn that ``model`` into the encoder's network.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[str, ...] = ()

    @property
    def library(self) -> str:
        """``timm``, ``torchvision`` or ``unlabeled``."""
        return self.name.partition("/")[0]

    @property
    def architecture(self) -> str:
        """The library's own name, such as ``resnet50``."""
        return self.name.partition("/")[2]


class ImageEncoder(Encoder, ABC):
    """A network of some library as an encoder of images.

    Args:
        net: the library's own model without its classifier, so that its keys are the library's.
        dim: width of the pooled features.
        spec: the input.
        made: where ``net`` comes from.
    """

    def __init__(self, net: nn.Module, *, dim: int, spec: ImageSpec, made: Origin) -> None:
        super().__init__()
        self.net = net
        self.dim = dim
        self.spec: ImageSpec = spec
        self.made = made

    @property
    def origin(self) -> str:
        """``library/architecture``."""
        return self.made.name

    @abstractmethod
    def features(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        """The network's last features: maps [B, dim, H, W] or tokens [B, N, dim]."""

    def local(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """[B, N, dim]: positions in row order, after ``prefix`` tokens that are none."""
        features = self.features(x)
        return features.flatten(2).mT if features.ndim == 4 else features

    def pool(self, local: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        """[B, dim]: the average over positions."""
        return local.mean(1)

    def maps(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """[B, dim, H, W]: the local features on their grid, without prefix tokens."""
        features = self.features(x)
        if features.ndim == 4:
            return features
        tokens = features[:, self.prefix :]
        count, height, width = tokens.shape[1], x.shape[-2], x.shape[-1]
        rows = round((count * height / width) ** 0.5)
        if rows == 0 or count % rows:
            raise ValueError(f"{self.origin} has no grid of positions ({count}): use local(x)")
        return tokens.mT.unflatten(2, (rows, count // rows))

    def origin_state_dict(self) -> dict[str, Tensor]:
        """The weights under the origin library's own keys, without a classifier."""
        return dict(self.net.state_dict())


def pooled_stages(x: Tensor, stages: Iterable[Callable[[Tensor], Tensor]]) -> list[Tensor]:
    """[B, d_i] each: the maps after each stage, averaged over positions."""
    found = []
    for stage in stages:
        x = stage(x)
        found.append(x.mean((2, 3)))
    return found


def small_stem(stem: str, *, size: int, has_stem: bool, origin: str) -> bool:
    """Decide whether to build the small stem: 3x3, stride 1, no max-pool (SimCLR section B.9).

    Raises:
        ValueError: an unknown ``stem``, or a small one for a network that is no ResNet.
    """
    if stem not in STEMS:
        raise ValueError(f"stem={stem!r}: use one of {', '.join(STEMS)}")
    if stem == "small" and not has_stem:
        raise ValueError(
            f"{origin} has no 7x7 convolution and max-pool that a small stem could replace: "
            "use stem='standard', or a ResNet such as timm/resnet18"
        )
    return has_stem and (stem == "small" or (stem == "auto" and size < SMALL_IMAGE))


def first_line(error: Exception) -> str:
    """The first line of what an error says; its type where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def refuse(origin: str, spec: ImageSpec, error: Exception) -> ValueError:
    """The error for a network that cannot take images of this size, with the remedy."""
    reason = first_line(error).rstrip(".")
    return ValueError(
        f"{origin} does not take images of {spec.size} x {spec.size} px ({reason}): give a size "
        "that its patches or windows divide, or use a convnet such as timm/resnet18"
    )


def conv_like(conv: nn.Conv2d, *, in_channels: int) -> nn.Conv2d:
    """A new convolution that differs only in its number of input channels."""
    return nn.Conv2d(
        in_channels,
        conv.out_channels,
        kernel_size=(conv.kernel_size[0], conv.kernel_size[1]),
        stride=(conv.stride[0], conv.stride[1]),
        padding=conv.padding,  # type: ignore[arg-type]
        bias=conv.bias is not None,
    )


def conv_text(path: str, conv: nn.Conv2d) -> str:
    """The Python line that puts ``conv`` at ``path`` of ``model``."""
    return (
        f"model.{path} = torch.nn.Conv2d({conv.in_channels}, {conv.out_channels}, "
        f"{conv.kernel_size[0]}, stride={conv.stride[0]}, padding={conv.padding[0]}, "
        f"bias={conv.bias is not None})"
    )


def dry_run(
    build: Callable[[], nn.Module], run: Callable[[nn.Module, Tensor], Tensor], *, spec: ImageSpec
) -> Tensor:
    """Build and run on one image of ``spec`` without arithmetic, on the meta device.

    Raises:
        AssertionError, RuntimeError, TypeError, ValueError: whatever the network says of an input
            that it cannot take.
    """
    with torch.device("meta"), torch.no_grad():
        return run(build().eval(), torch.empty(1, spec.channels, spec.size, spec.size))
