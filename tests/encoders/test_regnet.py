from functools import partial

import pytest
import torch
from timm.models.regnet import generate_regnet

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.image import timm_encoder
from unlabeled.encoders.regnet import recomputed, regnet_y

GRAY = ImageSpec(channels=1, size=28, mean=(0.5,), std=(0.5,))
COLOR = ImageSpec(channels=3, size=64, mean=(0.5,) * 3, std=(0.5,) * 3)


def test_the_papers_128gf_network_follows_from_its_parameters():
    """Widths 528, 1056, 2904, 7392; depths 2, 7, 17, 1 (SEER, section 3; RegNet, table 5)."""
    with torch.device("meta"):
        encoder = regnet_y(COLOR, depth=27, w0=456, wa=160.83, wm=2.52, group_width=264)
        named = timm_encoder(COLOR, name="regnety_1280")
    stages = [[*encoder.net.get_submodule(f"s{number}").children()] for number in (1, 2, 3, 4)]
    assert [len(stage) for stage in stages] == [2, 7, 17, 1]
    assert [stage[-1].conv3.conv.out_channels for stage in stages] == [528, 1056, 2904, 7392]
    assert encoder.dim == 7392
    assert encoder.net.stem.conv.stride == (2, 2)
    shapes = {name: value.shape for name, value in named.state_dict().items()}
    assert {name: value.shape for name, value in encoder.state_dict().items()} == shapes


@pytest.mark.parametrize(
    ("name", "dim"), [("regnety_160", 3024), ("regnety_1280", 7392), ("regnety_2560", 10444)]
)
def test_the_papers_networks_have_their_widths(name, dim):
    with torch.device("meta"):
        encoder = recomputed(COLOR, encoder=partial(timm_encoder, name=name))
    assert encoder.dim == dim


def test_the_small_one_keeps_a_map_of_small_images():
    encoder = regnet_y(GRAY).eval()
    assert list(generate_regnet(56.0, 32, 2.0, 5, 8)[0]) == [32, 64, 128, 256, 256]
    assert encoder.dim == 256
    assert encoder.maps(torch.randn(2, 1, 28, 28)).shape == (2, 256, 2, 2)
    assert encoder(torch.randn(2, 1, 16, 16)).shape == (2, 256)


def test_computing_stages_again_changes_no_loss_gradient_or_statistic():
    torch.manual_seed(0)
    plain = regnet_y(GRAY).double()
    again = recomputed(GRAY, encoder=partial(regnet_y)).double()
    again.load_state_dict(plain.state_dict())
    x = torch.randn(4, 1, 28, 28, dtype=torch.float64)
    for encoder in (plain, again):
        encoder(x).square().mean().backward()
    for (name, one), other in zip(plain.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, msg=name)
    for name, value in plain.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_parameters_that_make_no_regnet_are_refused():
    with pytest.raises(ValueError, match="give 1 stages: a RegNet has 4"):
        regnet_y(GRAY, wa=0.0)
