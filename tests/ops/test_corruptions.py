import colorsys
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats

from unlabeled.ops.corruption_strengths import BETWEEN, STRENGTHS
from unlabeled.ops.corruptions import (
    COLORED,
    CORRUPTIONS,
    SEVERITIES,
    _covering,
    _disk,
    _elastic,
    _moved,
    _pixelate,
    _smoothing,
    corrupt,
)
from unlabeled.views.generator import SampleGenerator


def draws(count, first=0, seed=0):
    return SampleGenerator(seed, 0, torch.arange(first, first + count))


def pictures(channels=3, count=8, side=32):
    rough = torch.rand(count, channels, 7, 7, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(rough, size=(side, side), mode="bicubic").clamp(0, 1)


def flat(value, count=4, side=32, channels=1):
    return torch.full((count, channels, side, side), value)


def corrupted(images, name, severity=3):
    return corrupt(images, name, severity=severity, generator=draws(len(images)))


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("side", [9, 28, 100])
def test_images_stay_images_and_what_one_gets_depends_on_no_other(name, side):
    images = pictures(count=4, side=side)
    found = corrupted(images, name)
    assert found.shape == images.shape
    assert found.dtype == torch.float32
    assert found.min() >= 0
    assert found.max() <= 1
    assert (found - images).abs().mean() > 0.001
    assert torch.equal(images, pictures(count=4, side=side))  # not in place
    alone = corrupt(images[2:3], name, severity=3, generator=draws(1, first=2))
    torch.testing.assert_close(found[2:3], alone, atol=1e-5, rtol=0)
    assert torch.equal(found, corrupted(images, name))


@pytest.mark.parametrize("name", [*CORRUPTIONS])
def test_one_channel_has_all_but_colors(name):
    images = pictures(channels=1)
    if name in COLORED:
        with pytest.raises(ValueError, match="changes colors, and images have 1"):
            corrupted(images, name)
    else:
        assert corrupted(images, name).shape == images.shape


@pytest.mark.parametrize("side", [32, 100])
@pytest.mark.parametrize(
    "name", [name for name in CORRUPTIONS if name not in ("saturate", "elastic", "snow")]
)
def test_more_severe_changes_more(name, side):
    images = pictures(side=side)
    change = [
        (corrupted(images, name, severity) - images).abs().mean().item() for severity in SEVERITIES
    ]
    assert change == sorted(change)
    assert change[4] > 1.2 * change[0]


def test_every_corruption_has_five_strengths_for_small_and_for_large_images():
    assert all(len(small) == len(large) == 5 for small, large in STRENGTHS.values())
    assert math.sqrt(32 * 224) == pytest.approx(BETWEEN, abs=0.5)


# Noise -------------------------------------------------------------------------------------------


def test_gaussian_noise_has_its_deviation():
    apart = corrupted(flat(0.5, count=50), "gaussian_noise", 1) - 0.5
    assert apart.mean().item() == pytest.approx(0, abs=0.001)
    assert apart.std().item() == pytest.approx(0.04, rel=0.02)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_shot_noise_is_poissons_quantile_of_the_same_chances(severity):
    levels = torch.arange(256).repeat(8)[:2028].view(1, 3, 26, 26).float() / 255
    found = corrupted(levels, "shot_noise", severity)
    rate = STRENGTHS["shot_noise"][0][severity - 1]
    chance = draws(1).uniform(3, 26, 26).double().numpy()
    expected = stats.poisson.ppf(chance, levels.double().numpy() * rate) / rate
    np.testing.assert_allclose(found.numpy(), expected.clip(0, 1), atol=1e-6)
    assert corrupted(flat(0.0), "shot_noise", severity).max() == 0  # no light, no noise


def test_impulse_noise_replaces_its_share_by_black_and_white():
    found = corrupted(flat(0.5, count=50), "impulse_noise", 5)
    assert found.unique().tolist() == [0.0, 0.5, 1.0]
    for value in (0.0, 1.0):
        assert (found == value).float().mean().item() == pytest.approx(0.035, rel=0.1)


# Blur --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["defocus_blur", "motion_blur", "zoom_blur"])
def test_blur_keeps_what_is_flat(name):
    torch.testing.assert_close(corrupted(flat(0.3), name, 5), flat(0.3), atol=1e-6, rtol=0)


def test_a_disk_is_round_sums_to_one_and_has_its_radius():
    disk = _disk(4.0, 0.1)
    assert disk.sum().item() == pytest.approx(1)
    torch.testing.assert_close(disk, disk.T)
    torch.testing.assert_close(disk, disk.flip(0))
    place = torch.arange(len(disk)) - len(disk) // 2
    spread = (disk.sum(0) * place**2).sum().item()
    assert spread == pytest.approx(4.0**2 / 4 + 1 / 12, rel=0.02)  # of a disk, and of a pixel
    assert _disk(0.3, 0.01).amax().item() == pytest.approx(1)


def test_motion_goes_one_way_along_its_angle_and_fades():
    point = torch.zeros(3, 1, 31, 31)
    point[:, :, 15, 15] = 1
    right, down, left = _moved(point, torch.tensor([0.0, 90.0, 180.0]), radius=6, std=2.0)
    # reading from p + i w moves what is seen against w
    expected = torch.exp(-(torch.arange(7.0) / 2).square() / 2)
    torch.testing.assert_close(right[0, 15, 9:16].flip(0), expected / expected.sum())
    assert right[0, 14].max() < 1e-6
    torch.testing.assert_close(down[0], right[0].T, atol=1e-5, rtol=0)
    torch.testing.assert_close(left[0], right[0].flip(1), atol=1e-5, rtol=0)


def test_zoom_keeps_the_middle_and_draws_the_rest_outward():
    images = torch.zeros(1, 1, 33, 33)
    images[:, :, 16, 16] = 1
    images[:, :, 16, 24] = 1
    found = corrupted(images, "zoom_blur", 5)[0, 0]
    assert found[16, 16] > 0.5
    assert found[16, 25:27].sum() > 0.2
    assert found[16, 20:24].sum() < 0.01


# Weather -----------------------------------------------------------------------------------------


def test_fog_leaves_darkness_dark_keeps_the_brightest_and_takes_contrast():
    assert corrupted(flat(0.0), "fog", 5).max() == 0
    images = pictures()
    found = corrupted(images, "fog", 5)
    assert bool((found.amax((1, 2, 3)) <= images.amax((1, 2, 3)) + 1e-6).all())
    # x + c p scaled by m / (m + c), so images that differ by d differ by d m / (m + c)
    half = images.clone()
    half[:, :, :16] *= 0.5  # the brightest value stays where it is
    keep = half.amax((1, 2, 3)) == images.amax((1, 2, 3))
    apart = (found - corrupted(half, "fog", 5))[keep]
    most = images.amax((1, 2, 3))[keep][:, None, None, None]
    torch.testing.assert_close(apart, (images - half)[keep] * most / (most + 1.5))
    assert keep.any()


def test_snow_only_whitens():
    images = pictures()
    for severity in SEVERITIES:
        assert bool((corrupted(images, "snow", severity) >= images - 1e-6).all())


# Light and color ---------------------------------------------------------------------------------


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_and_saturation_are_those_of_hsv(severity):
    images = pictures(count=1, side=12)
    images[:, :, 0, 0], images[:, :, 0, 1] = 0.0, 0.4  # black and gray
    more = STRENGTHS["brightness"][0][severity - 1]
    factor, summand = STRENGTHS["saturate"][0][severity - 1]
    brighter, colorful = images.clone(), images.clone()
    for row in range(12):
        for column in range(12):
            h, s, v = colorsys.rgb_to_hsv(*images[0, :, row, column].tolist())
            new = colorsys.hsv_to_rgb(h, s, min(1.0, v + more))
            brighter[0, :, row, column] = torch.tensor(new)
            if s > 0:
                new = colorsys.hsv_to_rgb(h, min(1.0, factor * s + summand), v)
                colorful[0, :, row, column] = torch.tensor(new)
    found = corrupted(images, "brightness", severity), corrupted(images, "saturate", severity)
    torch.testing.assert_close(found[0], brighter, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1], colorful, atol=1e-5, rtol=0)


def test_contrast_by_hand():
    images = torch.tensor([0.2, 0.6]).repeat(1, 1, 8, 4)  # mean 0.4
    found = corrupted(images, "contrast", 2)
    torch.testing.assert_close(found[0, 0, 0, :2], torch.tensor([0.3, 0.5]))


# Shape and resolution ----------------------------------------------------------------------------


def test_elastic_without_strength_is_the_image():
    images = pictures()
    found = _elastic(images, draws(8), 1.0, 0.0, 0.0, 0.0)
    torch.testing.assert_close(found, images, atol=1e-5, rtol=0)
    smooth = _elastic(images, draws(8), 1.0, 1e-9, 0.1, 0.0)
    torch.testing.assert_close(smooth, images, atol=1e-5, rtol=0)


def test_elastic_moves_three_corners_by_what_was_drawn():
    side, shift = 33, 0.05
    column = torch.arange(side).float().expand(1, 1, side, side) / side
    found = side * _elastic(column.contiguous(), draws(1), 1.0, 0.0, 0.0, shift)[0, 0]
    drawn = draws(1).uniform(2, 3, low=-shift * side, high=shift * side)[0, 0]
    high, low = 16 + 11, 16 - 11  # the corners (u, v) are (27, 27), (27, 5), (5, 5)
    for (u, v), off in zip(((high, high), (high, low), (low, low)), drawn, strict=True):
        assert found[v, u].item() == pytest.approx(u + off.item(), abs=1e-3)


@pytest.mark.parametrize("std", [0.3, 2.0, 9.0])
def test_smoothing_is_scipys_mirrored_filter(std):
    x = np.random.default_rng(0).normal(size=11)
    # scipy cuts off at int(3 std + 0.5), here at the whole pixel beyond
    reach = math.ceil(3 * std) / std
    expected = ndimage.gaussian_filter1d(x, std, mode="reflect", truncate=reach)
    np.testing.assert_allclose(_smoothing(11, std).numpy() @ x, expected, atol=1e-9)


def test_pixelate_is_pillows_box_and_in_between_the_share_that_is_covered():
    images = (255 * pictures(channels=1, count=3)).round()
    found = 255 * _pixelate(images / 255, draws(3), 1.0, 0.5)
    for place in range(3):
        picture = Image.fromarray(images[place, 0].byte().numpy())
        small = picture.resize((16, 16), Image.Resampling.BOX)
        large = np.asarray(small.resize((32, 32), Image.Resampling.BOX)).astype(float)
        np.testing.assert_allclose(found[place, 0].numpy(), large, atol=1.01)  # rounds twice
    thirds = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]]) / 1.5
    torch.testing.assert_close(_covering(3, 2), thirds.double())
    odd = _pixelate(images / 255, draws(3), 1.0, 0.65)
    assert len(odd[0, 0, 0].unique()) == 20  # int(0.65 * 32)


def test_bad_requests_are_refused_in_a_line():
    images = pictures(count=2)
    for name, severity, generator, message in (
        ("frost", 1, draws(2), "no corruption 'frost': use gaussian_noise"),
        ("fog", 0, draws(2), "severity is 0"),
        ("fog", 1, draws(3), "2 images, and a generator of 3"),
    ):
        with pytest.raises(ValueError, match=message):
            corrupt(images, name, severity=severity, generator=generator)
    with pytest.raises(ValueError, match="side of 4 px"):
        corrupt(images[:, :, :4], "fog", severity=1, generator=draws(2))
