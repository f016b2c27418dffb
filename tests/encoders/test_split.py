from functools import partial

import pytest
import torch

from unlabeled.artifacts import load_encoder, save_encoder
from unlabeled.data.source import ImageSpec
from unlabeled.encoders.image import small_resnet
from unlabeled.encoders.split import channel_split_encoder, color_split_encoder
from unlabeled.ops.color import rgb_to_lab

SPEC = ImageSpec(channels=3, size=16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
PART = partial(small_resnet, widths=(8, 8, 16))


def images(count=3):
    pixels = torch.rand(count, 3, 16, 16)
    mean, std = torch.tensor(SPEC.mean)[:, None, None], torch.tensor(SPEC.std)[:, None, None]
    return pixels, (pixels - mean) / std


def test_lightness_and_color_are_cut_apart():
    encoder = color_split_encoder(SPEC, part=PART, space="lab")
    pixels, x = images()
    light, color = encoder.split(x)
    lab = rgb_to_lab(pixels)
    torch.testing.assert_close(light, (lab[:, :1] - 50) / 50, rtol=0, atol=1e-4)
    expected = (lab[:, 1:] - torch.tensor([6.025, -6.6895])[:, None, None]) / torch.tensor(
        [92.208, 101.1675]
    )[:, None, None]
    torch.testing.assert_close(color, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("space", ["lab", "ydbdr"])
def test_features_are_the_parts_side_by_side(space):
    encoder = color_split_encoder(SPEC, part=PART, space=space).eval()
    _, x = images()
    light, color = encoder.split(x)
    together = encoder(x)
    assert together.shape == (3, encoder.dim)
    assert encoder.dim == encoder.local_dim == 32
    expected = [part(view) for part, view in zip(encoder.parts, (light, color), strict=True)]
    torch.testing.assert_close(together, torch.cat(expected, 1))
    torch.testing.assert_close(encoder.maps(x).flatten(2).mT, encoder.local(x))
    first = dict(encoder.parts[0].named_parameters())
    second = dict(encoder.parts[1].named_parameters())
    assert first.keys() == second.keys()
    assert not any(first[name] is second[name] for name in first)


def test_gray_images_of_equal_lightness_differ_in_the_first_part_only():
    encoder = color_split_encoder(SPEC, part=PART).eval()
    pixels, _ = images()
    gray = pixels.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    mean, std = torch.tensor(SPEC.mean)[:, None, None], torch.tensor(SPEC.std)[:, None, None]
    one, other = encoder((gray - mean) / std), encoder((gray * 0.5 - mean) / std)
    assert (one[:, :16] - other[:, :16]).abs().max() > 1e-3
    torch.testing.assert_close(one[:, 16:], other[:, 16:], rtol=0, atol=1e-4)


def test_sensors_are_split_as_they_come():
    spec = ImageSpec(channels=4, size=16, mean=(0.0,) * 4, std=(1.0,) * 4)
    encoder = channel_split_encoder(spec, part=PART, groups=((0, 1, 2), (3,)))
    x = torch.randn(2, 4, 16, 16)
    color, depth = encoder.split(x)
    assert torch.equal(color, x[:, :3])
    assert torch.equal(depth, x[:, 3:])
    assert encoder(x).shape == (2, 32)


def test_what_cannot_be_split_is_refused():
    gray = ImageSpec(channels=1, size=16, mean=(0.5,), std=(0.5,))
    with pytest.raises(ValueError, match="images have 1 channels"):
        color_split_encoder(gray, part=PART)
    with pytest.raises(ValueError, match="space is 'hsv': use lab or ydbdr"):
        color_split_encoder(SPEC, part=PART, space="hsv")
    with pytest.raises(ValueError, match="channels 0 to 2"):
        channel_split_encoder(SPEC, part=PART, groups=((0, 1), (3,)))
    with pytest.raises(ValueError, match="1 parts for 1 groups"):
        channel_split_encoder(SPEC, part=PART, groups=((0, 1, 2),))


def test_a_stored_one_comes_back(tmp_path):
    builder = partial(color_split_encoder, part=PART, space="ydbdr")
    encoder = builder(SPEC).eval()
    loaded = load_encoder(save_encoder(encoder, builder, tmp_path, name="x")).encoder
    _, x = images()
    assert torch.equal(loaded(x), encoder(x))
