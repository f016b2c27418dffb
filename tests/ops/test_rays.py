import math

import pytest
import torch

from unlabeled.ops.rays import composite, ndc_rays, pixel_rays, sample_pdf


def along(density, count=64, *, length=1.0, last=None, **options):
    t = torch.linspace(0, length, count + 1)[None, :-1].double()
    sigma = torch.full_like(t, density)
    color = torch.tensor([0.2, 0.5, 0.9]).double().expand(1, count, 3)
    step = length / count if last is None else last
    return composite(color, sigma, t, torch.ones(1).double(), last=step, **options)


@pytest.mark.parametrize("count", [1, 7, 64])
def test_constant_density_one_over_length_one_is_opaque_to_1_less_1_over_e(count):
    seen = along(1.0, count)
    assert seen.opacity.item() == pytest.approx(1 - math.exp(-1), abs=1e-6)
    expected = (1 - math.exp(-1)) * torch.tensor([0.2, 0.5, 0.9]).double()
    torch.testing.assert_close(seen.color[0], expected, atol=1e-6, rtol=0)


def test_the_rest_of_the_ray_is_white_where_asked():
    seen = along(1.0, white=True)
    torch.testing.assert_close(seen.color, along(1.0).color + math.exp(-1), atol=1e-6, rtol=0)


def test_weights_sum_to_one_with_the_endless_last_interval():
    assert along(0.5, last=1e10).opacity.item() == pytest.approx(1.0, abs=1e-6)
    assert along(0.0, last=1e10).opacity.item() == 0.0


def test_an_opaque_slab_is_as_deep_as_it_is_far():
    t = torch.linspace(2, 6, 401)[None]
    density = (t >= 3.5).float() * 1e4
    seen = composite(torch.rand(1, 401, 3), density, t, torch.ones(1))
    assert seen.depth.item() == pytest.approx(3.5, abs=0.011)


def test_a_direction_twice_as_long_makes_intervals_twice_as_long():
    t, density, color = torch.linspace(0, 1, 9)[None], torch.full((1, 9), 0.3), torch.rand(1, 9, 3)
    one = composite(color, 2 * density, t, torch.ones(1))
    torch.testing.assert_close(composite(color, density, t, 2 * torch.ones(1)).color, one.color)


def test_the_middle_ray_is_the_axis_and_y_is_up():
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor([1.0, 2.0, 3.0])
    rays = pixel_rays(3, 5, focal=10.0, pose=pose).view(3, 5, 6)
    torch.testing.assert_close(rays[1, 2, 3:], torch.tensor([0.0, 0.0, -1.0]))
    assert (rays[..., :3] == pose[:3, 3]).all()
    assert rays[0, 2, 4] > 0 > rays[2, 2, 4]
    assert rays[1, 0, 3] < 0 < rays[1, 4, 3]


def test_normalized_device_coordinates_map_the_near_plane_and_infinity():
    rays = torch.tensor([[0.3, -0.2, 0.5, 0.1, 0.2, -1.0]])
    (moved,) = ndc_rays(rays, height=20, width=30, focal=25.0)
    assert moved[2].item() == pytest.approx(-1.0, abs=1e-5)
    assert (moved[2] + moved[5]).item() == pytest.approx(1.0, abs=1e-5)
    point = rays[0, :3] + 40.5 * rays[0, 3:]  # on the ray: the same image point at z' < 1
    share = (point[0] / -point[2]) * 25.0 / 15
    end = moved[:3] + (1 - 1 / 41.0) * moved[3:]
    assert end[0].item() == pytest.approx(share.item(), abs=2e-3)


def test_fine_samples_fall_where_the_weight_is():
    edges = torch.linspace(0, 1, 11)[None].double()
    weights = torch.zeros(1, 10).double()
    weights[0, 3] = 1e6
    drawn = sample_pdf(edges, weights, torch.rand(1, 50).double())
    assert ((drawn >= 0.3) & (drawn <= 0.4)).all()
    u = torch.linspace(0, 1, 11)[None].double()
    even = sample_pdf(edges, torch.ones(1, 10).double(), u)
    torch.testing.assert_close(even, u, atol=1e-4, rtol=0)
