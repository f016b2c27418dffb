"""The stem rule and the helpers that torchvision and timm encoders share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unlabeled.encoders.backbone import conv_like, conv_text, small_stem


@pytest.mark.parametrize(
    ("stem", "size", "has_stem", "small"),
    [
        ("auto", 63, True, True),
        ("auto", 64, True, False),
        ("auto", 32, False, False),
        ("small", 224, True, True),
        ("standard", 32, True, False),
    ],
)
def test_stem_rule(stem: str, size: int, has_stem: bool, small: bool) -> None:
    assert small_stem(stem, size=size, has_stem=has_stem, origin="timm/x") is small


def test_stem_that_is_not_there_or_unknown() -> None:
    with pytest.raises(ValueError, match=r"timm/x has no 7x7 .* use stem='standard'"):
        small_stem("small", size=32, has_stem=False, origin="timm/x")
    with pytest.raises(ValueError, match="stem='tiny': use one of auto, small, standard"):
        small_stem("tiny", size=32, has_stem=True, origin="timm/x")


@pytest.mark.parametrize("conv", [nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.Conv2d(3, 8, 4, 4)])
def test_convolution_text_makes_the_same_convolution(conv: nn.Conv2d) -> None:
    other = conv_like(conv, in_channels=5)
    model = nn.Module()
    exec(conv_text("conv", other), {"model": model, "torch": torch})
    model.get_submodule("conv").load_state_dict(other.state_dict())
    x = torch.randn(2, 5, 16, 16)
    assert torch.equal(model.get_submodule("conv")(x), other(x))
    assert other(x).shape == conv(x[:, :3]).shape
