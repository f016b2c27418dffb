"""Crops against torchvision: the boxes by its own loop, the resize by its function."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from unlabeled.views import resize
from unlabeled.views.resize import BOX_NUMBERS, TRIES, Images, crop_resize, draw_boxes, sides

TOLERANCE = 1e-5  # of the range 0 .. 1: torchvision's filter weights are float32
BOXES = torch.tensor(
    [
        [0, 0, 40, 50],
        [3, 7, 20, 31],
        [39, 49, 1, 1],
        [0, 10, 40, 1],
        [10, 0, 2, 50],
        [5, 5, 16, 16],
    ]
).float()
FLIPS = torch.tensor([False, True, False, False, True, True])


def expected(images: Images, size: int, mode: str) -> Tensor:
    views = []
    for image, box, flip in zip(images, BOXES.int().tolist(), FLIPS.tolist(), strict=True):
        values = image.float() / 255 if image.dtype == torch.uint8 else image
        view = reference.resized_crop(
            values, *box, size=[size, size], interpolation=InterpolationMode(mode), antialias=True
        )
        view = view.clamp(0, 1)  # the cubic overshoots
        views.append(reference.horizontal_flip(view) if flip else view)
    return torch.stack(views)


@pytest.mark.parametrize("size", [2, 9, 16, 37, 64])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [1, 3, 7])
def test_small_images_equal_torchvision(size: int, mode: str, channels: int) -> None:
    torch.manual_seed(0)
    images = torch.rand(6, channels, 40, 50)
    views = crop_resize(images, BOXES, FLIPS, size=size, interpolation=mode)
    torch.testing.assert_close(views, expected(images, size, mode), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(40, 50), (90, 70)])  # both ways of doing it
def test_bytes_floats_and_lists_agree(mode: str, shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (6, 3, *shape), dtype=torch.uint8)
    theirs = expected(images, 24, mode)
    for form in (images, images.float() / 255, list(images), list(images.float() / 255)):
        views = crop_resize(form, BOXES, FLIPS, size=24, interpolation=mode)
        torch.testing.assert_close(views, theirs, rtol=0, atol=TOLERANCE)


def test_ragged_images_equal_torchvision() -> None:
    torch.manual_seed(0)
    shapes = [(40, 50), (41, 90), (300, 60), (40, 50), (12, 50), (21, 21)]
    images = [torch.randint(0, 256, (3, *shape), dtype=torch.uint8) for shape in shapes]
    views = crop_resize(images, BOXES, FLIPS, size=24, interpolation="bilinear")
    torch.testing.assert_close(views, expected(images, 24, "bilinear"), rtol=0, atol=TOLERANCE)


def test_huge_crops_are_thinned_and_keep_their_content() -> None:
    across = torch.linspace(0, 1, 5000).expand(1, 1000, 5000)  # 5 million pixels
    box, flip = torch.tensor([[0.0, 0, 1000, 5000]]), torch.tensor([False])
    view = crop_resize([across], box, flip, size=10, interpolation="bilinear")
    # a triangle filter keeps a ramp, but for the ends, where it is cut
    middle = torch.linspace(0.05, 0.95, 10)[1:-1].expand(10, 8)
    torch.testing.assert_close(view[0, 0, :, 1:-1], middle, rtol=0, atol=2e-3)


def test_thinning_leaves_four_pixels_for_one() -> None:
    crop = torch.empty(1, 1000, 5000)
    assert resize._thinned(crop, 10).shape == (1, 40, 40)
    assert resize._thinned(crop, 240).shape == (1, 1000, 1000)
    assert resize._thinned(crop[:, :500], 10).shape == (1, 500, 5000)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_both_ways_agree_on_large_images(mode: str) -> None:
    torch.manual_seed(0)
    images = torch.rand(6, 3, 130, 90)  # on a GPU these are matrices, on a CPU calls
    matrices = resize._by_matrices(images, BOXES, FLIPS, size=48, interpolation=mode)
    calls = resize._one_by_one(images, BOXES, FLIPS, size=48, interpolation=mode)
    torch.testing.assert_close(matrices, calls, rtol=0, atol=TOLERANCE)


def test_a_strip_of_one_row_is_no_burden() -> None:
    strip = torch.randint(0, 256, (3, 1, 200_000), dtype=torch.uint8)
    box, flip = torch.tensor([[0.0, 0, 1, 200_000]]), torch.tensor([True])
    assert crop_resize([strip], box, flip, size=8, interpolation="bicubic").shape == (1, 3, 8, 8)


def box_by_loop(
    height: int, width: int, numbers: list[float], scale: tuple[float, float], ratio: tuple
) -> list[int]:
    """RandomResizedCrop.make_params, with the numbers given."""
    for attempt in range(TRIES):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * numbers[attempt])
        low, high = math.log(ratio[0]), math.log(ratio[1])
        aspect = math.exp(low + (high - low) * numbers[TRIES + attempt])
        wide, tall = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < tall <= height:
            top = int(numbers[-2] * (height - tall + 1))
            return [top, int(numbers[-1] * (width - wide + 1)), tall, wide]
    wide, tall = width, height
    if width / height < min(ratio):
        tall = round(width / min(ratio))
    elif width / height > max(ratio):
        wide = round(height * max(ratio))
    return [(height - tall) // 2, (width - wide) // 2, tall, wide]


@pytest.mark.parametrize("size", [(32, 32), (1, 1), (10, 300), (300, 10), (3, 40), (64, 48)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.9, 1.0)])
def test_boxes_equal_the_loop(size: tuple[int, int], scale: tuple[float, float]) -> None:
    torch.manual_seed(1)
    numbers = torch.rand(200, BOX_NUMBERS)
    ratio = (3 / 4, 4 / 3)
    boxes = draw_boxes(
        sides(torch.empty(200, 1, *size), numbers.device), numbers, scale=scale, ratio=ratio
    )
    loop = [box_by_loop(*size, row, scale, ratio) for row in numbers.tolist()]
    assert boxes.tolist() == loop


def test_boxes_fill_their_distribution() -> None:
    torch.manual_seed(2)
    boxes = draw_boxes(
        torch.tensor([[1000.0, 1000.0]]).expand(20_000, 2).double(),
        torch.rand(20_000, BOX_NUMBERS),
        scale=(0.08, 0.5),
        ratio=(3 / 4, 4 / 3),
    )
    top, left, tall, wide = boxes.unbind(1)
    share = tall * wide / 1e6
    assert 0.078 < share.min() < 0.085
    assert 0.495 < share.max() < 0.502
    assert abs(share.mean() - 0.29) < 0.003  # uniform: every box fits
    assert abs((wide / tall).log().mean()) < 0.004
    assert ((top + tall <= 1000) & (left + wide <= 1000) & (top >= 0) & (left >= 0)).all()
    assert abs((top / (1000 - tall)).mean() - 0.5) < 0.01
