"""Image classification models of torchvision as encoders."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.backbone import (
    ImageEncoder,
    Origin,
    conv_like,
    conv_text,
    dry_run,
    pooled_stages,
    refuse,
    small_stem,
)

if TYPE_CHECKING:
    from jaxtyping import Float


Stages = tuple[Callable[[Tensor], Tensor], ...]


def _average(net: Any, local: Tensor) -> Tensor:
    return local.mean(1)


def _average_then_norm(net: Any, local: Tensor) -> Tensor:
    return net.classifier(local.mean(1)[:, :, None, None])


def _class_token(net: Any, local: Tensor) -> Tensor:
    return local[:, 0]


@dataclass(frozen=True, kw_only=True)
class _Family:
    """How the models of one torchvision class are cut open.

    ``first`` is the place of the first convolution, ``head`` that of the classifier; ``std`` the
    deviation of the first convolution's random weights, None for Kaiming's over fan-out.
    """

    first: str
    head: str
    features: Callable[[Any, Tensor], Tensor]
    pool: Callable[[Any, Tensor], Tensor] = _average
    std: float | None = None
    fixed_size: bool = False
    prefix: int = 0
    stages: Callable[[Any], Stages] | None = None


def _resnet(net: Any, x: Tensor) -> Tensor:
    x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
    return net.layer4(net.layer3(net.layer2(net.layer1(x))))


def _resnet_stages(net: Any) -> Stages:
    def stem(x: Tensor) -> Tensor:
        return net.relu(net.bn1(net.conv1(x)))

    def first(x: Tensor) -> Tensor:
        return net.layer1(net.maxpool(x))

    return stem, first, net.layer2, net.layer3, net.layer4


def _regnet_stages(net: Any) -> Stages:
    return net.stem, *net.trunk_output


def _regnet(net: Any, x: Tensor) -> Tensor:
    return net.trunk_output(net.stem(x))


def _plain(net: Any, x: Tensor) -> Tensor:
    return net.features(x)


def _densenet(net: Any, x: Tensor) -> Tensor:
    return F.relu(net.features(x))


def _vit(net: Any, x: Tensor) -> Tensor:
    if x.shape[-2:] != (net.image_size, net.image_size):
        raise ValueError(
            f"this torchvision ViT takes {net.image_size} px images, got {tuple(x.shape[-2:])}: "
            "for views of several sizes use a timm ViT, such as timm/vit_small_patch16_224"
        )
    tokens = net._process_input(x)
    return net.encoder(torch.cat([net.class_token.expand(len(x), -1, -1), tokens], 1))


def _swin(net: Any, x: Tensor) -> Tensor:
    return net.norm(net.features(x)).movedim(-1, 1)


_FAMILIES = {
    "ResNet": _Family(first="conv1", head="fc", features=_resnet, stages=_resnet_stages),
    "RegNet": _Family(first="stem.0", head="fc", features=_regnet, stages=_regnet_stages),
    "ConvNeXt": _Family(
        first="features.0.0",
        head="classifier.2",
        features=_plain,
        pool=_average_then_norm,
        std=0.02,
    ),
    "EfficientNet": _Family(first="features.0.0", head="classifier", features=_plain),
    "MobileNetV2": _Family(first="features.0.0", head="classifier", features=_plain),
    "MobileNetV3": _Family(first="features.0.0", head="classifier", features=_plain),
    "DenseNet": _Family(first="features.conv0", head="classifier", features=_densenet),
    "VisionTransformer": _Family(
        first="conv_proj",
        head="heads",
        features=_vit,
        pool=_class_token,
        std=0.02,
        fixed_size=True,
        prefix=1,
    ),
    "SwinTransformer": _Family(first="features.0.0", head="head", features=_swin, std=0.02),
}
"""By the name of torchvision's class: importing it takes a second, so that waits for a build."""


class TorchvisionEncoder(ImageEncoder):
    """A torchvision model as an encoder; `torchvision_encoder` builds it."""

    def __init__(
        self, net: nn.Module, *, dim: int, family: _Family, spec: ImageSpec, made: Origin
    ) -> None:
        super().__init__(net, dim=dim, spec=spec, made=made)
        self.family = family
        self.prefix = family.prefix

    def features(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        """Maps [B, dim, H, W], or tokens [B, N, dim] of a ViT."""
        return self.family.features(self.net, x)

    def stages(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """[B, d_i] each: the stem, then the stages of a ResNet or RegNet."""
        if self.family.stages is None:
            return super().stages(x)
        return pooled_stages(x, self.family.stages(self.net))

    def pool(self, local: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        """[B, dim]: what torchvision's classifier gets: the class token or the average."""
        return self.family.pool(self.net, local)


def torchvision_encoder(spec: ImageSpec, *, name: str, stem: str = "auto") -> TorchvisionEncoder:
    """Build a torchvision model with random weights: see `init_weights` for others.

    Args:
        spec: the input.
        name: torchvision's name, such as ``resnet18`` or ``vit_b_16``.
        stem: ``small`` (3x3, stride 1, no max-pool; ResNets), ``standard`` (as torchvision builds
            it), or ``auto``: small for ResNets on images under 64 px.

    Raises:
        ValueError: an unknown name or one of another family, a stem that the model does not have,
            or an image size that does not work; each with the remedy.
    """
    origin = f"torchvision/{name}"
    if name not in torchvision_names():
        near = get_close_matches(name, torchvision_names(), n=3)
        hint = (
            f"did you mean {', '.join(near)}?" if near else "see torchvision.models.list_models()"
        )
        raise ValueError(f"torchvision has no image classification model {name!r}: {hint}")
    with torch.device("meta"):
        kind = type(_create(name, {})).__name__
    if kind not in _FAMILIES:
        raise ValueError(
            f"{origin}: no encoder for class {kind}: use timm/{name}, or one of the "
            f"families {', '.join(_FAMILIES)}"
        )
    family = _FAMILIES[kind]
    small = small_stem(stem, size=spec.size, has_stem=kind == "ResNet", origin=origin)
    build = partial(_build, name, family, spec, small)
    try:
        dry_run(lambda: build()[0], family.features, spec=spec)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise refuse(origin, spec, error) from error
    net, dim, made = build()
    return TorchvisionEncoder(net, dim=dim, family=family, spec=spec, made=made)


def torchvision_names() -> list[str]:
    """All image classification models of torchvision."""
    from torchvision import models

    return models.list_models(module=models)


class _CountOnCpu(TorchFunctionMode):
    """Keep small tensors real under a surrounding ``torch.device("meta")``.

    torchvision computes the widths of a RegNet with tensors and reads their values.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call ``func``, on the CPU if it makes numbers rather than weights."""
        options = dict(kwargs or {})
        if func in (torch.arange, torch.tensor):
            options["device"] = "cpu"
        return func(*args, **options)


def _create(name: str, options: dict[str, int]) -> nn.Module:
    from torchvision.models import get_model

    with _CountOnCpu() if name.startswith("regnet") else nullcontext():
        return get_model(name, weights=None, **options)


def _build(
    name: str, family: _Family, spec: ImageSpec, small: bool
) -> tuple[nn.Module, int, Origin]:
    options = {"image_size": spec.size} if family.fixed_size else {}
    net = _create(name, options)
    steps = [f"model.{_python_path(family.head)} = torch.nn.Identity()"]
    classifier = net.get_submodule(family.head)
    dim = next(item.in_features for item in classifier.modules() if isinstance(item, nn.Linear))
    net.set_submodule(family.head, nn.Identity())
    old: Any = net.get_submodule(family.first)
    if small or spec.channels != old.in_channels:
        new = conv_like(old, in_channels=spec.channels)
        if small:
            new = nn.Conv2d(spec.channels, old.out_channels, 3, 1, 1, bias=False)
        if family.std is None:
            nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
        else:
            nn.init.trunc_normal_(new.weight, std=family.std)
        net.set_submodule(family.first, new)
        steps.append(conv_text(_python_path(family.first), new))
    if small:
        net.maxpool = nn.Identity()
        steps.append("model.maxpool = torch.nn.Identity()")
    return net, dim, Origin(name=f"torchvision/{name}", arguments=options, steps=tuple(steps))


def _python_path(path: str) -> str:
    return re.sub(r"\.(\d+)", r"[\1]", path)
