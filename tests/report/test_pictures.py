"""Pictures: each thumbnail lies where the page looks for it."""

from __future__ import annotations

import base64
import io

import pytest
import torch
from PIL import Image

from unlabeled.method import Batch
from unlabeled.report.pictures import picture, sprite, stretch, thumbnails


def decoded(uri):
    kind, _, text = uri.partition(";base64,")
    assert kind in ("data:image/jpeg", "data:image/png")
    return Image.open(io.BytesIO(base64.b64decode(text, validate=True)))


@pytest.mark.parametrize(("count", "side"), [(1, 16), (7, 28), (30, 12)])
def test_thumbnails_lie_at_their_place_and_do_not_bleed(count, side):
    level = torch.linspace(0, 1, count)[torch.randperm(count)]
    images = level[:, None, None, None].expand(count, 1, side, side)
    made = sprite(images, budget=1_000_000)
    sheet = decoded(made.uri)
    assert sheet.size == (made.columns * made.pitch, made.rows * made.pitch)
    assert made.pitch % 8 == 0
    assert made.pitch >= side == made.side
    for number in range(count):
        column, row = made.place(number)
        left, top = column * made.pitch, row * made.pitch
        cell = sheet.crop((left, top, left + side, top + side))
        low, high = cell.getextrema()
        assert abs(low - 255 * level[number]) < 3
        assert abs(high - 255 * level[number]) < 3


def test_color_keeps_its_channels():
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 16, 16)
    blue = torch.tensor([0.0, 0.0, 1.0])[:, None, None].expand(3, 16, 16)
    sheet = decoded(sprite(torch.stack([red, blue]), budget=100_000).uri)
    assert sheet.getpixel((8, 8))[0] > 240 > 20 > sheet.getpixel((8, 8))[2]
    assert sheet.getpixel((24, 8))[2] > 240 > 20 > sheet.getpixel((24, 8))[0]


def test_the_budget_lowers_the_quality():
    noise = torch.rand(64, 3, 32, 32)
    large, small = (sprite(noise, budget=budget) for budget in (10**9, 40_000))
    assert len(small.uri) < len(large.uri)


def test_images_that_are_not_square_are_refused():
    with pytest.raises(ValueError, match="all square"):
        sprite(torch.rand(2, 3, 8, 9), budget=1)


def test_thumbnails_are_the_centered_squares():
    image = torch.zeros(1, 20, 40, dtype=torch.uint8)
    image[:, :, 10:30] = 255
    batch = Batch(views=[[image]], index=torch.tensor([0]))
    assert thumbnails(batch, channels=1, side=20).eq(1).all()


@pytest.mark.parametrize(("channels", "shown"), [(1, 1), (2, 1), (3, 3), (5, 3)])
def test_other_numbers_of_channels_are_cut_and_stretched(channels, shown):
    raw = (torch.rand(4, channels, 8, 8) * 100 + 50).byte()
    pixels = thumbnails(Batch(views=[raw], index=torch.arange(4)), channels=channels, side=8)
    assert pixels.shape == (4, shown, 8, 8)
    assert torch.allclose(pixels, raw[:, :shown].float() / 255, atol=1e-5)
    drawn = stretch(pixels, channels=channels)
    if channels in (1, 3):
        assert drawn is pixels
    else:
        assert drawn.amin((0, 2, 3)).tolist() == [0] * shown
        assert drawn.amax((0, 2, 3)).tolist() == [1] * shown


def test_a_picture_keeps_small_pixels_and_shrinks_large_ones():
    level = torch.randint(256, (1, 12, 12)).byte()
    small = picture(level.float() / 255)
    assert (small.width, small.height) == (12, 12)
    assert decoded(small.uri).tobytes() == level.numpy().tobytes()
    large = picture(torch.rand(3, 300, 300), most=112)
    assert (large.width, large.height) == decoded(large.uri).size == (112, 112)
