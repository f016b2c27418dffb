import pytest
import torch
from torch import nn
from torch.nn import functional as F

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.alexnet import alexnet


def spec(size: int = 227) -> ImageSpec:
    return ImageSpec(channels=3, size=size, mean=(0.5,) * 3, std=(0.25,) * 3)


def test_parameters_are_those_of_the_five_convolutions():
    """34,944 + 307,456 + 885,120 + 663,936 + 442,624."""
    encoder = alexnet(spec())
    assert sum(value.numel() for value in encoder.parameters()) == 2_334_080
    assert [conv.out_channels for conv in encoder.net.convolutions] == [96, 256, 384, 384, 256]


@pytest.mark.parametrize(("size", "side"), [(227, 6), (225, 6), (64, 3)])
def test_pool5_of_whole_images_and_of_tiles(size, side):
    encoder = alexnet(spec())
    x = torch.randn(2, 3, size, size)
    maps = encoder.maps(x)
    assert maps.shape == (2, 256, side, side)
    torch.testing.assert_close(encoder(x), maps.mean((2, 3)))


def test_the_layers_are_caffes():
    net = alexnet(spec()).net
    x = torch.randn(1, 3, 64, 64)

    def block(x, conv, **options):
        return F.relu(F.conv2d(x, conv.weight, conv.bias, **options))

    def norm(x):
        return nn.LocalResponseNorm(5, 1e-4, 0.75)(F.max_pool2d(x, 3, 2, ceil_mode=True))

    hidden = norm(block(x, net.conv1, stride=2))
    hidden = norm(block(hidden, net.conv2, padding=2, groups=2))
    hidden = block(hidden, net.conv3, padding=1)
    hidden = block(hidden, net.conv4, padding=1, groups=2)
    hidden = block(hidden, net.conv5, padding=1, groups=2)
    torch.testing.assert_close(net(x), F.max_pool2d(hidden, 3, 2, ceil_mode=True))


def test_only_tiles_are_read_with_the_stride_of_tiles():
    encoder = alexnet(spec(), tile=100)
    assert encoder.net.first(torch.randn(1, 3, 100, 100)).shape[-1] == 45
    assert encoder.net.first(torch.randn(1, 3, 101, 101)).shape[-1] == 23
    none = alexnet(spec(), tile=0)
    assert none.net.first(torch.randn(1, 3, 64, 64)).shape[-1] == 14


def test_stages_are_the_convolutions():
    encoder = alexnet(spec()).eval()
    x = torch.randn(2, 3, 227, 227)
    stages = encoder.stages(x)
    assert [stage.shape for stage in stages] == [(2, d) for d in (96, 256, 384, 384, 256)]
    first = F.relu(F.conv2d(x, encoder.net.conv1.weight, encoder.net.conv1.bias, 4))
    torch.testing.assert_close(stages[0], first.mean((2, 3)))


def test_images_that_are_too_small_are_refused():
    with pytest.raises(ValueError, match=r"unlabeled/alexnet does not take images of 20 x 20 px"):
        alexnet(spec(20))
