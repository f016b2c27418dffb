"""The small ResNet."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.small import Block, small_resnet


def spec(channels: int, size: int) -> ImageSpec:
    return ImageSpec(channels=channels, size=size, mean=(0.5,) * channels, std=(0.25,) * channels)


@pytest.mark.parametrize(
    ("channels", "size", "side"), [(1, 28, 4), (3, 32, 4), (1, 8, 1), (3, 64, 4), (4, 96, 6)]
)
def test_shapes_and_stem_by_size(channels: int, size: int, side: int) -> None:
    encoder = small_resnet(spec(channels, size), widths=(4, 8, 12)).eval()
    x = torch.randn(2, channels, size, size)
    assert encoder.dim == encoder.local_dim == 12
    maps = encoder.maps(x)
    assert maps.shape == (2, 12, side, side)
    torch.testing.assert_close(encoder.local(x), maps.flatten(2).transpose(1, 2))
    torch.testing.assert_close(encoder(x), maps.mean((2, 3)))
    assert encoder.net.stem[0].kernel_size == ((7, 7) if size >= 64 else (3, 3))


def test_block_is_two_convolutions_and_a_shortcut() -> None:
    block = Block(3, 5, stride=2).eval()
    x = torch.randn(2, 3, 8, 8)
    hidden = F.relu(block.norm1(F.conv2d(x, block.conv1.weight, stride=2, padding=1)))
    hidden = block.norm2(F.conv2d(hidden, block.conv2.weight, padding=1))
    expected = F.relu(hidden + block.shortcut(x))
    torch.testing.assert_close(block(x), expected)


def test_zero_init_residual_makes_blocks_the_identity() -> None:
    x = torch.randn(2, 4, 8, 8).relu()
    zero = small_resnet(spec(1, 28), widths=(4,), blocks=(2,), zero_init_residual=True).eval()
    assert torch.equal(zero.net.stages(x), x)
    plain = small_resnet(spec(1, 28), widths=(4,), blocks=(2,)).eval()
    assert not torch.equal(plain.net.stages(x), x)


def test_stem_options() -> None:
    encoder = small_resnet(
        spec(1, 28), widths=(4, 8), blocks=(1, 2), stem_kernel=3, stem_stride=1, stem_pool=True
    )
    assert encoder.maps(torch.randn(1, 1, 28, 28)).shape == (1, 8, 7, 7)


@pytest.mark.parametrize(("widths", "blocks"), [((4, 8), (1,)), ((), ()), ((4,), (0,))])
def test_bad_shape(widths: tuple[int, ...], blocks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one positive number a stage"):
        small_resnet(spec(1, 28), widths=widths, blocks=blocks)


def test_stages_are_the_stem_and_the_stages() -> None:
    encoder = small_resnet(spec(1, 28), widths=(4, 8, 12)).eval()
    x = torch.randn(2, 1, 28, 28)
    stages = encoder.stages(x)
    assert [stage.shape for stage in stages] == [(2, 4), (2, 4), (2, 8), (2, 12)]
    torch.testing.assert_close(stages[0], encoder.net.stem(x).mean((2, 3)))
    torch.testing.assert_close(stages[-1], encoder(x))
