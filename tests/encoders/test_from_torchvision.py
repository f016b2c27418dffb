"""torchvision models as encoders: equal to torchvision's own model without its classifier."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.from_torchvision import torchvision_encoder


def spec(channels: int, size: int) -> ImageSpec:
    return ImageSpec(channels=channels, size=size, mean=(0.5,) * channels, std=(0.25,) * channels)


CASES = [  # name, channels, head that the user removes
    ("resnet18", 3, "fc"),
    ("regnet_y_400mf", 3, "fc"),
    ("convnext_tiny", 3, "classifier.2"),
    ("efficientnet_b0", 3, "classifier"),
    ("mobilenet_v2", 3, "classifier"),
    ("mobilenet_v3_small", 3, "classifier"),
    ("densenet121", 3, "classifier"),
    ("swin_t", 3, "head"),
]


@pytest.mark.parametrize(("name", "channels", "head"), CASES)
def test_equals_torchvision(name: str, channels: int, head: str) -> None:
    encoder = torchvision_encoder(spec(channels, 64), name=name).eval()
    model = get_model(name, weights=None).eval()
    model.set_submodule(head, nn.Identity())
    model.load_state_dict(encoder.origin_state_dict(), strict=True)
    x = torch.randn(2, channels, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), model(x))
        local, maps = encoder.local(x), encoder.maps(x)
    assert local.shape == (2, 4, encoder.dim)
    torch.testing.assert_close(maps.flatten(2).mT, local)


def test_vit_gives_its_class_token() -> None:
    encoder = torchvision_encoder(spec(1, 32), name="vit_b_16").eval()
    model = get_model("vit_b_16", weights=None, image_size=32).eval()
    model.heads = nn.Identity()
    model.conv_proj = nn.Conv2d(1, 768, 16, 16)
    model.load_state_dict(encoder.origin_state_dict(), strict=True)
    x = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), model(x))
        assert encoder.local(x).shape == (1, 5, 768)
        assert encoder.maps(x).shape == (1, 768, 2, 2)
        with pytest.raises(ValueError, match="takes 32 px images"):
            encoder(torch.randn(1, 1, 48, 48))


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "swin_t"])
def test_any_number_of_channels(name: str, channels: int) -> None:
    encoder = torchvision_encoder(spec(channels, 64), name=name).eval()
    with torch.no_grad():
        features = encoder(torch.randn(2, channels, 64, 64))
    assert features.isfinite().all()
    assert features.std() > 0


def test_small_stem_keeps_the_resolution() -> None:
    x = torch.randn(2, 1, 32, 32)
    assert torchvision_encoder(spec(1, 32), name="resnet18").maps(x).shape[2:] == (4, 4)
    standard = torchvision_encoder(spec(1, 32), name="resnet18", stem="standard")
    assert standard.maps(x).shape[2:] == (1, 1)


@pytest.mark.parametrize("name", ["resnet50", "regnet_y_16gf", "vit_l_16", "swin_b"])
def test_builds_on_meta(name: str) -> None:
    with torch.device("meta"):
        encoder = torchvision_encoder(spec(3, 224), name=name)
    assert all(parameter.is_meta for parameter in encoder.parameters())


@pytest.mark.parametrize(
    ("name", "size", "stem", "message"),
    [
        ("resnet19", 32, "auto", r"no image classification model 'resnet19': did you mean resnet"),
        ("alexnet", 224, "auto", r"use timm/alexnet, or one of the families ResNet, RegNet"),
        ("vit_b_16", 28, "auto", r"does not take images of 28 x 28 px"),
        ("vit_b_16", 32, "small", r"has no 7x7 convolution"),
    ],
)
def test_errors_name_the_remedy(name: str, size: int, stem: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        torchvision_encoder(spec(3, size), name=name, stem=stem)


@pytest.mark.parametrize(
    ("name", "widths"),
    [("resnet18", [64, 64, 128, 256, 512]), ("regnet_y_400mf", [32, 48, 104, 208, 440])],
)
def test_stages_are_the_stem_and_the_stages(name: str, widths: list[int]) -> None:
    encoder = torchvision_encoder(spec(3, 64), name=name).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        stages = encoder.stages(x)
        assert [stage.shape[1] for stage in stages] == widths
        torch.testing.assert_close(stages[-1], encoder(x))
        if name == "resnet18":
            net = encoder.net
            stem = net.relu(net.bn1(net.conv1(x)))
            torch.testing.assert_close(stages[0], stem.mean((2, 3)))
            torch.testing.assert_close(stages[1], net.layer1(net.maxpool(stem)).mean((2, 3)))


def test_an_encoder_without_stages_says_so() -> None:
    encoder = torchvision_encoder(spec(3, 64), name="mobilenet_v2")
    with pytest.raises(ValueError, match=r"does not show its stages: use .* timm/resnet18"):
        encoder.stages(torch.randn(1, 3, 64, 64))
