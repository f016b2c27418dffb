"""Any image model of timm as an encoder."""

from __future__ import annotations

import inspect
import math
import re
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.backbone import (
    ImageEncoder,
    Origin,
    conv_text,
    dry_run,
    refuse,
    small_stem,
)

if TYPE_CHECKING:
    from jaxtyping import Float


class TimmEncoder(ImageEncoder):
    """A timm model as an encoder; `timm_encoder` builds it."""

    def __init__(self, net: Any, *, rank: int, spec: ImageSpec, made: Origin) -> None:
        super().__init__(net, dim=net.head_hidden_size, spec=spec, made=made)
        # timm's own way to ask; VOLO alone has a class token and does not say so
        self.prefix = getattr(net, "num_prefix_tokens", 1 if type(net).__name__ == "VOLO" else 0)
        self.rank = rank
        self.nhwc = getattr(net, "output_fmt", "NCHW") == "NHWC"

    @property
    def local_dim(self) -> int:
        """Width of ``local``: not ``dim`` where timm pools through a hidden layer (VGG)."""
        return self.net.num_features  # type: ignore[return-value]

    def features(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        """Maps [B, local_dim, H, W] or tokens [B, N, local_dim]."""
        features = self.net.forward_features(x)  # type: ignore[operator]
        return features.movedim(-1, 1) if self.nhwc else features

    def stages(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """[B, d_i] each: timm's own list, the stem and stages of convnets, the blocks of ViTs."""
        found = getattr(self.net, "forward_intermediates", None)  # timm's own way to ask
        if found is None:
            return super().stages(x)
        maps = found(x, intermediates_only=True, output_fmt="NCHW")
        return [each.mean((2, 3)) for each in maps]

    def pool(self, local: Float[Tensor, "b n l"]) -> Float[Tensor, "b d"]:
        """[B, dim]: the model's own norm and pooling, ``forward_head(pre_logits=True)``."""
        if self.rank == 4:
            side = math.isqrt(local.shape[1])
            rows = side if side * side == local.shape[1] else 1  # one row has the same average
            grid = local.unflatten(1, (rows, -1))
            local = grid if self.nhwc else grid.movedim(-1, 1)
        return self.net.forward_head(local, pre_logits=True)  # type: ignore[operator]


def timm_encoder(
    spec: ImageSpec, *, name: str, stem: str = "auto", width: float = 1.0
) -> TimmEncoder:
    """Build a timm model with random weights: see `init_weights` for others.

    Models of a fixed image size are built for ``spec.size``; those that can interpolate their
    position embedding also take other sizes (multi-crop).

    Args:
        spec: the input.
        name: timm's name, such as ``resnet50`` or ``vit_small_patch16_224``.
        stem: ``small`` (3x3, stride 1, no max-pool; ResNets), ``standard`` (as timm builds it),
            or ``auto``: small for ResNets on images under 64 px.
        width: multiplies all channels of a ResNet, the stem's too.

    Raises:
        ValueError: an unknown name, a width or a stem that the model does not have, or an image
            size or a form of features that does not work; each with the remedy.
    """
    import timm
    from timm.models.resnet import ResNet

    origin = f"timm/{name}"
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() lists them all"
        raise ValueError(f"timm has no model {name!r}: {hint}")
    arguments: dict[str, Any] = {"num_classes": 0, "in_chans": spec.channels}
    flexible: dict[str, Any] = {}
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        arguments["img_size"] = spec.size
    if width != 1:
        if "stem_width" not in _known_arguments(name) or width <= 0:
            raise ValueError(f"width={width} for {origin}: give a positive width to a ResNet, or 1")
        arguments["channels"] = tuple(round(count * width) for count in (64, 128, 256, 512))
    build = partial(timm.create_model, name, **arguments)
    try:
        if "dynamic_img_size" in _known_arguments(name):
            flexible["dynamic_img_size"] = True
        features = dry_run(partial(build, **flexible), _forward_features, spec=spec)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise refuse(origin, spec, error) from error
    if not isinstance(features, Tensor):
        raise ValueError(
            f"{origin} has several streams of features, not one: use another model, such as "
            "timm/resnet50 or timm/vit_small_patch16_224"
        )
    net = build(**flexible)
    steps: tuple[str, ...] = () if width == 1 else _scale_stem(net, round(64 * width))
    small = small_stem(stem, size=spec.size, has_stem=isinstance(net, ResNet), origin=origin)
    if small:
        steps = _make_stem_small(net)
    made = Origin(name=origin, arguments=arguments, steps=steps)
    return TimmEncoder(net, rank=features.ndim, spec=spec, made=made)


def _forward_features(net: Any, x: Tensor) -> Tensor:
    return net.forward_features(x)


def _known_arguments(name: str) -> set[str]:
    import timm
    import torch

    with torch.device("meta"):
        kind = type(timm.create_model(name, num_classes=0))
    return {
        argument
        for parent in kind.__mro__
        if issubclass(parent, nn.Module)
        for argument in inspect.signature(parent.__init__).parameters
    }


def _scale_stem(net: Any, channels: int) -> tuple[str, ...]:
    """Give a plain stem other channels, in place, as timm's arguments cannot; the lines for it."""
    if isinstance(net.conv1, nn.Sequential):
        raise ValueError("width is for ResNets with a plain stem: use resnet18 or resnet50")
    paths = {"conv1": (net.conv1.in_channels, channels)}
    for path in ("layer1.0.conv1", "layer1.0.downsample.0"):
        if path != "layer1.0.downsample.0" or net.layer1[0].downsample is not None:
            paths[path] = (channels, net.get_submodule(path).out_channels)
    lines = [f"model.bn1 = torch.nn.BatchNorm2d({channels})"]
    net.bn1 = type(net.bn1)(channels)
    for path, (inputs, outputs) in paths.items():
        old = net.get_submodule(path)
        new = nn.Conv2d(inputs, outputs, old.kernel_size, old.stride, old.padding, bias=False)
        nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
        net.set_submodule(path, new)
        lines.append(conv_text(re.sub(r"\.(\d+)", r"[\1]", path), new))
    return tuple(lines)


def _make_stem_small(net: Any) -> tuple[str, ...]:
    """Replace the stem of a timm ResNet in place; return the lines that do the same."""
    net.maxpool = nn.Identity()
    if isinstance(net.conv1, nn.Sequential):  # a deep stem: three 3x3 convolutions
        conv: Any = net.conv1[0]
        conv.stride = (1, 1)
        first = "model.conv1[0].stride = (1, 1)"
    else:
        old = net.conv1
        net.conv1 = nn.Conv2d(old.in_channels, old.out_channels, 3, 1, 1, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        first = conv_text("conv1", net.conv1)
    return first, "model.maxpool = torch.nn.Identity()"
