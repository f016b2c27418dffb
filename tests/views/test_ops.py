"""Every operation against torchvision's function on each sample alone, on fixed parameters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from unlabeled.views import ops

TOLERANCE = 2e-6  # of the range 0 .. 1: a few roundings of float32
FACTORS = torch.tensor([0.0, 0.2, 0.9, 1.0, 1.4, 1.8])


def pictures(channels: int, *, count: int = 6, height: int = 19, width: int = 23) -> Tensor:
    torch.manual_seed(channels)
    images = torch.rand(count, channels, height, width)
    images[:, :, 0] = images[:, :1, 0]  # gray pixels
    images[:, :, 1] = 0
    images[:, :, 2] = 1
    images[:, 0, 3] = images[:, -1, 3]  # two channels tie
    return images


def each(images: Tensor, function: Callable[..., Tensor], values: Tensor) -> Tensor:
    return torch.stack(
        [function(image, value) for image, value in zip(images, values.tolist(), strict=True)]
    )


def close(ours: Tensor, theirs: Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["adjust_brightness", "adjust_contrast"])
def test_factors_equal_torchvision(name: str, channels: int) -> None:
    images = pictures(channels)
    before = images.clone()
    close(getattr(ops, name)(images, FACTORS), each(images, getattr(reference, name), FACTORS))
    assert torch.equal(images, before)


def test_saturation_equals_torchvision() -> None:
    images = pictures(3)
    close(
        ops.adjust_saturation(images, FACTORS), each(images, reference.adjust_saturation, FACTORS)
    )


def test_hue_equals_torchvision() -> None:
    images, shifts = pictures(3), torch.tensor([-0.5, -0.2, 0.0, 0.1, 0.37, 0.5])
    # torchvision divides hue by 6 and multiplies again: some more roundings
    close(ops.adjust_hue(images, shifts), each(images, reference.adjust_hue, shifts), 1e-5)


def test_hue_turns_primary_colors() -> None:
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(3, 3, 2, 2)
    turned = ops.adjust_hue(red, torch.tensor([1 / 3, -1 / 3, 0.5]))[:, :, 0, 0]
    close(turned, torch.tensor([[0.0, 1, 0], [0, 0, 1], [0, 1, 1]]))


def test_grayscale_equals_torchvision() -> None:
    images = pictures(3)
    close(ops.grayscale(images), reference.rgb_to_grayscale(images))


def test_contrast_takes_the_mean_of_all_channels_where_there_is_no_color() -> None:
    images = pictures(7)
    result = ops.adjust_contrast(images, torch.zeros(6))
    close(result, images.mean((1, 2, 3), keepdim=True).expand_as(images))


def test_solarize_equals_torchvision() -> None:
    images = pictures(3)
    images[0, 0, 0, 0] = 0.25  # the threshold itself is inverted
    close(ops.solarize(images, threshold=0.25), reference.solarize(images, 0.25))


@pytest.mark.parametrize(("side", "radius"), [(19, 1), (19, 4), (33, 9), (70, 11), (5, 4)])
@pytest.mark.parametrize("channels", [1, 3])
def test_blur_equals_torchvision(side: int, radius: int, channels: int) -> None:
    images = pictures(channels, height=side, width=side + 2)
    sigma = torch.tensor([0.1, 0.3, 0.7, 1.0, 1.6, 2.0])
    expected = each(
        images,
        lambda image, value: reference.gaussian_blur(image, [2 * radius + 1] * 2, [value] * 2),
        sigma,
    )
    close(ops.gaussian_blur(images, sigma, radius=radius), expected)


def test_blur_rejects_a_radius_as_large_as_the_image() -> None:
    with pytest.raises(ValueError, match="radius is 5, image 5 x 5"):
        ops.gaussian_blur(torch.rand(1, 1, 5, 5), torch.ones(1), radius=5)
