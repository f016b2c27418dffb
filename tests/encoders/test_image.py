"""Image encoders by name."""

from __future__ import annotations

import pytest
import torch

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.image import image_encoder
from unlabeled.recipe import describe, rebuild

SPEC = ImageSpec(channels=1, size=32, mean=(0.5,), std=(0.25,))


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("small", "unlabeled/small_resnet"),
        ("timm/resnet18", "timm/resnet18"),
        ("timm/resnet18.a1_in1k", "timm/resnet18.a1_in1k"),
        ("torchvision/resnet18", "torchvision/resnet18"),
        ("resnet18", "timm/resnet18"),
        ("regnet_y_400mf", "torchvision/regnet_y_400mf"),
    ],
)
def test_names_and_that_a_recipe_can_store_them(name: str, origin: str) -> None:
    builder = rebuild(describe(image_encoder(name)))
    with torch.device("meta"):
        assert builder(SPEC).origin == origin


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/resnet5O", "did you mean timm/resnet50"),
        ("torchvision/resnet51", "did you mean torchvision/resnet"),
        ("smal", "did you mean .*small"),
        ("zzzzzzzz", "use small, timm/NAME, torchvision/NAME"),
        ("foo/resnet18", "did you mean .*resnet18"),
    ],
)
def test_unknown_names_get_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        image_encoder(name)
