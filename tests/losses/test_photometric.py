import pytest
import torch

from unlabeled.losses.photometric import (
    census_distance,
    masked_mean,
    roughness,
    ssim_distance,
)


def test_alike_images_are_no_distance_apart():
    x = torch.rand(2, 3, 9, 11)
    assert ssim_distance(x, x).abs().max() < 1e-5
    assert census_distance(x, x).abs().max() == 0
    torch.testing.assert_close(
        census_distance(x, x + 0.1), torch.zeros(2, 1, 9, 11), atol=1e-4, rtol=0
    )


def test_census_of_a_dot_by_hand():
    """A dot of 10 gray levels: its 8 neighbors differ in one of nine, the dot in eight."""
    x, y = torch.zeros(1, 3, 7, 7), torch.zeros(1, 3, 7, 7)
    y[..., 3, 3] = 10 / 255
    gray = 10 * (0.2989 + 0.5870 + 0.1140)
    t = gray**2 / (0.81 + gray**2)
    one = t / (0.1 + t) / 9
    distance = census_distance(x, y)[0, 0]
    assert distance[3, 3].item() == pytest.approx(8 * one, rel=1e-4)
    assert distance[2, 2].item() == pytest.approx(one, rel=1e-4)
    assert distance[1, 1].item() == 0


def test_ssim_of_black_and_white():
    """Constants 0 and 1: (c1)(c2) / ((1 + c1)(c2)), so the distance is near a half."""
    distance = ssim_distance(torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4))
    assert distance.shape == (1, 1, 2, 2)
    assert distance[0, 0, 0, 0].item() == pytest.approx((1 - 1e-4 / 1.0001) / 2, abs=1e-4)


def test_a_ramp_is_rough_to_the_first_order_and_smooth_to_the_second():
    flow = torch.zeros(1, 2, 6, 8)
    flow[:, 0] = torch.arange(8.0) * 3
    flat = torch.full((1, 3, 6, 8), 0.5)
    assert roughness(flow, flat).item() == pytest.approx(3 / 2 / 4)
    assert roughness(flow, flat, order=2).item() == 0
    edges = flat.clone()
    edges[..., ::2] = 0  # an edge of 0.5 at each step
    expected = 3 / 2 / 4 * torch.tensor(-5.0).exp().item()
    assert roughness(flow, edges).item() == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ValueError, match="order is 3"):
        roughness(flow, flat, order=3)


def test_means_are_over_what_is_seen():
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :1] = 1
    value = torch.full((1, 3, 4, 4), 2.0)
    assert masked_mean(value * mask, mask).item() == pytest.approx(2.0)
    assert masked_mean(value * 0, mask * 0).item() == 0
