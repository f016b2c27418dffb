from functools import partial

import pytest
import torch
from torch import nn

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.image import small_resnet, timm_encoder, torchvision_encoder
from unlabeled.encoders.lenses import MIXTURES, Exposed, MixConv, RotationLens, lens_encoder
from unlabeled.ops.rotate import quarter_turns

SPEC = ImageSpec(channels=1, size=28, mean=(0.5,), std=(0.5,))
SMALL = partial(small_resnet, widths=(8, 8, 16))


@pytest.fixture
def encoder():
    encoder = lens_encoder(SPEC, host=SMALL, scales=(0.5,))
    for module in encoder.host.modules():  # a host with a past
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return encoder


def test_equal_components_are_a_single_convolution():
    mix, single = MixConv(3, 4, kernel=3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
    with torch.no_grad():
        mix.conv.weight.copy_(single.weight.repeat(MIXTURES, 1, 1, 1))
        mix.conv.bias.copy_(single.bias.repeat(MIXTURES))
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(mix(x), single(x))


def test_components_are_weighed_by_the_softmax_of_themselves():
    mix = MixConv(1, 1, kernel=1, padding=0)
    with torch.no_grad():
        mix.conv.weight.copy_(torch.tensor([1.0, -1.0, 2.0, 0.0, 0.5]).view(5, 1, 1, 1))
        mix.conv.bias.zero_()
    v = torch.tensor([3.0, -3.0, 6.0, 0.0, 1.5])
    expected = (v.softmax(0) * v).sum()
    torch.testing.assert_close(mix(torch.full((1, 1, 1, 1), 3.0))[0, 0, 0, 0], expected)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("side", [32, 64])
def test_what_a_torchvision_host_shows_is_what_it_computes(name, side):
    spec = ImageSpec(channels=3, size=side, mean=(0.5,) * 3, std=(0.5,) * 3)
    encoder = lens_encoder(spec, host=partial(torchvision_encoder, name=name), scales=()).eval()
    x = torch.randn(2, 3, side, side)
    shown = encoder.expose(x)
    torch.testing.assert_close(shown.pre_relu.relu(), encoder.host.maps(x))
    assert shown.pre_conv.shape[1] == 512
    assert shown.shortcut.shape[1] == encoder.dim


def test_upright_images_pass_the_host_alone(encoder):
    encoder.eval()
    x = torch.randn(3, 1, 28, 28)
    with torch.no_grad():
        encoder.selector.bias[0] = 1
        torch.testing.assert_close(encoder(x), encoder.host(x))
        torch.testing.assert_close(encoder.maps(x), encoder.host.maps(x))
        encoder.selector.bias[2] = 2  # sees half a turn everywhere
        assert not torch.allclose(encoder(x), encoder.host(x))


def test_each_row_passes_the_lens_of_its_turns(encoder):
    encoder.eval()
    exposed = encoder.expose(torch.randn(5, 1, 28, 28))
    turns = torch.tensor([2, 0, 1, 3, 2])
    found = encoder.turned(exposed, turns)
    for row, turn in enumerate(turns.tolist()):
        part = Exposed(*(value[row : row + 1] for value in exposed))
        expected = encoder.rotations[turn - 1](part, (4, 4)) if turn else part.pre_relu
        torch.testing.assert_close(found[row : row + 1], expected)


def test_the_lens_turns_maps_back():
    """A 1 x 1 host turns with its image: an identity lens then gives the upright map exactly."""
    lens = RotationLens(nn.Conv2d(3, 3, 1), shortcut=3, turns=1).eval()
    with torch.no_grad():
        lens.mix.conv.weight.zero_()
        lens.mix.conv.bias.zero_()
        for component in range(MIXTURES):  # main part = shortcut, no residual
            for channel in range(3):
                lens.mix.conv.weight[component * 6 + channel, 3 + channel] = 1
    lens.norm.eps = 0.0
    x = torch.randn(2, 3, 4, 4)
    turned = quarter_turns(x, torch.ones(2, dtype=torch.int64))
    torch.testing.assert_close(lens(Exposed(turned, turned, turned), (4, 4)), x)


@pytest.mark.parametrize(
    ("size", "scale", "side"), [(28, 0.5, 14), (224, 0.5, 112), (224, 0.33, 74)]
)
def test_reduced_images_come_back_at_the_size_of_the_map(size, scale, side):
    spec = ImageSpec(channels=1, size=size, mean=(0.5,), std=(0.5,))
    stages = 3 if size == 28 else 4
    host = partial(small_resnet, widths=(8,) * stages, blocks=(1,) * stages)
    encoder = lens_encoder(spec, host=host, scales=(scale,)).eval()
    x = torch.randn(2, 1, side, side)
    assert encoder.maps(x).shape[2:] == encoder.maps(torch.randn(2, 1, size, size)).shape[2:]


def test_the_host_is_frozen_whatever_the_mode(encoder):
    encoder.train()
    before = {name: value.clone() for name, value in encoder.host.state_dict().items()}
    x = torch.randn(6, 1, 28, 28)
    turns = torch.arange(6) % 4
    encoder.turned(encoder.expose(x), turns).sum().backward()
    assert encoder.rotations[0].norm.training
    assert not any(module.training for module in encoder.host.modules())
    assert not any(value.requires_grad for value in encoder.host.parameters())
    assert all(torch.equal(before[name], v) for name, v in encoder.host.state_dict().items())


def test_a_host_without_a_known_last_block_is_refused():
    spec = ImageSpec(channels=3, size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(ValueError, match="no last residual block that lenses know"):
        lens_encoder(spec, host=partial(timm_encoder, name="resnet18"))
