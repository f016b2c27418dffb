"""timm models as encoders: equal to timm's own pre-logits, at any channels, on any stem."""

from __future__ import annotations

import pytest
import timm
import torch

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.from_timm import timm_encoder


def spec(channels: int, size: int) -> ImageSpec:
    return ImageSpec(channels=channels, size=size, mean=(0.5,) * channels, std=(0.25,) * channels)


CASES = [  # name, channels, size, positions, prefix, options of timm's own model
    ("resnet18", 1, 64, 4, 0, {}),
    ("resnet50", 3, 64, 4, 0, {}),
    ("vit_tiny_patch16_224", 3, 32, 4, 1, {"img_size": 32}),
    ("convnext_atto", 4, 64, 4, 0, {}),
    ("swin_tiny_patch4_window7_224", 2, 64, 4, 0, {"img_size": 64}),
    ("regnety_002", 1, 64, 4, 0, {}),
    ("mobilenetv3_small_050", 3, 64, 4, 0, {}),
    ("test_vit", 3, 32, 4, 1, {"img_size": 32}),
]


@pytest.mark.parametrize(("name", "channels", "size", "positions", "prefix", "options"), CASES)
def test_equals_timm(
    name: str, channels: int, size: int, positions: int, prefix: int, options: dict[str, int]
) -> None:
    encoder = timm_encoder(spec(channels, size), name=name).eval()
    model = timm.create_model(name, num_classes=0, in_chans=channels, **options).eval()
    model.load_state_dict(encoder.origin_state_dict(), strict=True)
    x = torch.randn(2, channels, size, size)
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(x), pre_logits=True)
        local, maps = encoder.local(x), encoder.maps(x)
        torch.testing.assert_close(encoder(x), expected)
    assert encoder.dim == expected.shape[1]
    assert encoder.prefix == prefix
    assert local.shape == (2, prefix + positions, encoder.local_dim)
    torch.testing.assert_close(maps.flatten(2).mT, local[:, prefix:])
    assert encoder.origin == f"timm/{name}"


def test_maps_keep_rows_and_columns_of_an_oblong_image() -> None:
    encoder = timm_encoder(spec(3, 32), name="test_vit").eval()
    x = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        maps, local = encoder.maps(x), encoder.local(x)
    assert maps.shape[2:] == (2, 4)
    torch.testing.assert_close(maps[0, :, 1, 0], local[0, encoder.prefix + 4])


def test_small_stem_keeps_the_resolution() -> None:
    small = timm_encoder(spec(1, 32), name="resnet18")
    standard = timm_encoder(spec(1, 32), name="resnet18", stem="standard")
    x = torch.randn(2, 1, 32, 32)
    assert small.maps(x).shape[2:] == (4, 4)
    assert standard.maps(x).shape[2:] == (1, 1)
    deep = timm_encoder(spec(1, 32), name="resnet18d", stem="small")
    assert deep.maps(x).shape[2:] == (4, 4)


def test_vit_takes_several_sizes() -> None:
    encoder = timm_encoder(spec(3, 32), name="test_vit").eval()
    assert encoder(torch.randn(2, 3, 16, 16)).shape == (2, encoder.dim)


@pytest.mark.parametrize("name", ["resnet50", "vit_base_patch16_224", "regnety_032"])
def test_builds_on_meta(name: str) -> None:
    with torch.device("meta"):
        encoder = timm_encoder(spec(3, 224), name=name)
    assert all(parameter.is_meta for parameter in encoder.parameters())


def test_dry_run_leaves_the_random_state_alone() -> None:
    torch.manual_seed(3)
    encoder = timm_encoder(spec(3, 64), name="resnet18")
    torch.manual_seed(3)
    model = timm.create_model("resnet18", num_classes=0)
    assert torch.equal(encoder.net.conv1.weight, model.conv1.weight)


@pytest.mark.parametrize(
    ("name", "size", "stem", "message"),
    [
        ("reznet50", 32, "auto", r"no model 'reznet50': did you mean resnet50"),
        ("vit_tiny_patch16_224", 28, "auto", r"does not take images of 28 x 28 px .* convnet"),
        ("vit_tiny_patch16_224", 32, "small", r"timm/vit_tiny_patch16_224 has no 7x7"),
        ("convnext_atto", 32, "small", r"use stem='standard'"),
        ("crossvit_9_240", 240, "auto", r"several streams"),
        ("inception_v3", 28, "auto", r"does not take images of 28 x 28 px"),
    ],
)
def test_errors_name_the_remedy(name: str, size: int, stem: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        timm_encoder(spec(3, size), name=name, stem=stem)


def test_width_multiplies_every_channel_of_a_resnet():
    half, whole = (timm_encoder(spec(2, 64), name="resnet50", width=w) for w in (0.5, 1.0))
    assert (half.dim, whole.dim) == (1024, 2048)
    assert half.net.conv1.weight.shape == (32, 2, 7, 7)
    for name, value in whole.net.named_parameters():
        other = half.net.get_parameter(name)
        assert [2 * s for s in other.shape[:1]] == list(value.shape[:1]), name
    for name, width in (("vit_tiny_patch16_224", 0.5), ("resnet18", 0.0)):
        with pytest.raises(ValueError, match=rf"width={width} for timm/{name}"):
            timm_encoder(spec(3, 64), name=name, width=width)


@pytest.mark.parametrize(
    ("name", "widths"),
    [("resnet18", [64, 64, 128, 256, 512]), ("vit_tiny_patch16_224", [192] * 12)],
)
def test_stages_are_timms(name: str, widths: list[int]) -> None:
    encoder = timm_encoder(spec(3, 32), name=name).eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        stages = encoder.stages(x)
        assert [stage.shape[1] for stage in stages] == widths
        if name == "resnet18":
            torch.testing.assert_close(stages[-1], encoder(x))
