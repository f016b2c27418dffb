"""Augment: what is drawn, in which order it applies, and that a sample depends on itself alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from unlabeled.data.source import ImageSpec
from unlabeled.views import augment as augment_module
from unlabeled.views.augment import OPERATIONS, Augment
from unlabeled.views.generator import SampleGenerator

FULL = Augment(
    brightness=0.8,
    contrast=0.8,
    saturation=0.8,
    hue=0.2,
    gray=0.2,
    blur=0.5,
    solarize=0.2,
)


def brightness(image: Tensor, factor: float) -> Tensor:
    return (factor * image).clamp(0, 1)


def contrast(image: Tensor, factor: float) -> Tensor:
    return (factor * image + (1 - factor) * image.mean()).clamp(0, 1)


PLAIN = (brightness, contrast)  # torchvision refuses images of other channels than 1 and 3


def spec_of(channels: int = 3, size: int = 12) -> ImageSpec:
    mean = tuple(0.4 + 0.01 * channel for channel in range(channels))
    return ImageSpec(channels=channels, size=size, mean=mean, std=(0.25,) * channels)


def bytes_of(count: int, channels: int = 3, height: int = 17, width: int = 15) -> Tensor:
    generator = torch.Generator().manual_seed(channels)
    shape = (count, channels, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def generator_of(index: Tensor, epoch: int = 0) -> SampleGenerator:
    return SampleGenerator(0, epoch, index)


@pytest.mark.parametrize("order", [OPERATIONS, ("gray", "jitter", "blur", "solarize")])
@pytest.mark.parametrize("channels", [1, 3, 7])
def test_views_equal_torchvision_in_the_same_order(order: tuple[str, ...], channels: int) -> None:
    augment, spec = replace(FULL, order=order), spec_of(channels, 24)
    images, index = bytes_of(64, channels, 40, 33), torch.arange(64)
    views, boxes, flips = augment(images, generator_of(index), spec)
    drawn = augment.draw(images, generator_of(index))
    assert torch.equal(drawn.box, boxes)
    assert torch.equal(drawn.flip, flips)
    jitters = (
        *((reference.adjust_brightness, reference.adjust_contrast) if channels < 4 else PLAIN),
        *((reference.adjust_saturation, reference.adjust_hue) if channels == 3 else ()),
    )
    for place, image in enumerate(images.float() / 255):
        view = reference.resized_crop(
            image, *boxes[place].int().tolist(), size=[24, 24], antialias=True
        )
        if flips[place]:
            view = reference.horizontal_flip(view)
        for operation in order:
            if not getattr(drawn, operation)[place]:
                continue
            if operation == "jitter":
                keys = drawn.keys[place, : len(jitters)]
                for name in keys.argsort().tolist():
                    view = jitters[name](view, drawn.factors[place, name].item())
            elif operation == "gray" and channels == 3:
                view = reference.rgb_to_grayscale(view, num_output_channels=3)
            elif operation == "blur":
                sigma = drawn.sigma[place].item()
                view = reference.gaussian_blur(view, [3, 3], [sigma, sigma])
            elif operation == "solarize":
                view = reference.solarize(view, 0.5)
        view = reference.normalize(view, list(spec.mean), list(spec.std))
        off = (views[place] - view).abs() * 0.25
        if drawn.solarize[place]:  # values within a rounding of the threshold may fall either way
            assert (off > 1e-4).float().mean() < 0.01
        else:
            assert off.max() < 1e-4  # of the range 0 .. 1


def test_shares_of_what_is_drawn() -> None:
    count = 20_000
    drawn = FULL.draw(torch.empty(count, 3, 32, 32), generator_of(torch.arange(count)))
    for name, share in (
        ("flip", 0.5),
        ("jitter", 0.8),
        ("gray", 0.2),
        ("blur", 0.5),
        ("solarize", 0.2),
    ):
        assert abs(getattr(drawn, name).float().mean() - share) < 0.012, name  # 3.4 sigma
    for column, (low, high) in enumerate([(0.2, 1.8)] * 3 + [(-0.2, 0.2)]):
        factor = drawn.factors[:, column]
        assert low <= factor.min() < low + 0.01
        assert high - 0.01 < factor.max() <= high
        assert abs(factor.mean() - (low + high) / 2) < 0.015
    assert 0.1 <= drawn.sigma.min() < 0.11
    assert 1.99 < drawn.sigma.max() <= 2.0


def test_what_is_drawn_is_independent() -> None:
    images = torch.empty(1).expand(20_000, 3, 1000, 1000)  # large: whole pixels hardly round
    drawn = FULL.draw(images, generator_of(torch.arange(20_000)))
    corner = drawn.box[:, :2] / (1001 - drawn.box[:, 2:])
    area = drawn.box[:, 2:].prod(1, keepdim=True)
    columns = [value if value.ndim == 2 else value[:, None] for value in drawn[1:]]
    together = torch.cat([corner, area, *columns], 1).double()
    assert (together.T.corrcoef() - torch.eye(17)).abs().max() < 0.03  # 4 sigma


def test_jitter_has_every_order_equally_often() -> None:
    count = 24_000
    drawn = FULL.draw(torch.empty(count, 3, 8, 8), generator_of(torch.arange(count)))
    orders = drawn.keys.argsort(1) @ torch.tensor([64, 16, 4, 1])
    places = [64 * a + 16 * b + 4 * c + d for a, b, c, d in permutations(range(4))]
    seen = torch.tensor([(orders == place).sum() for place in places])
    assert seen.sum() == count
    assert ((seen - 1000).abs() < 130).all()  # 4 sigma


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("channels", "height", "width", "size"), [(1, 28, 28, 28), (3, 17, 15, 13), (3, 70, 80, 33)]
)
def test_a_sample_does_not_depend_on_its_batch(
    interpolation: str, channels: int, height: int, width: int, size: int
) -> None:
    augment, spec = replace(FULL, interpolation=interpolation), spec_of(channels, size)
    images = bytes_of(8, channels, height, width)
    whole = augment(images, generator_of(torch.arange(8)), spec)[0]
    shuffled = torch.tensor([5, 0, 7, 2, 3, 1, 6, 4])
    for parts in (shuffled.split(4), shuffled.split(1), shuffled.split(7), torch.tensor([[3]])):
        for part in parts:
            views = augment(images[part], generator_of(part), spec)[0]
            assert torch.equal(views, whole[part])  # bit for bit
            ragged = augment(list(images[part]), generator_of(part), spec)[0]
            # solarize may tell a rounding at its threshold: compare the rest
            off = (ragged - whole[part]).abs() > 1e-4
            assert off.float().mean() < 0.002
    listed = augment(list(images), generator_of(torch.arange(8)), spec)[0]
    assert torch.equal(listed[2:3], augment([images[2]], generator_of(torch.tensor([2])), spec)[0])


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    images, index = bytes_of(9), torch.arange(9)
    whole = FULL(images, generator_of(index), spec_of())[0]
    monkeypatch.setitem(augment_module._CHUNK, "cpu", 900)
    assert torch.equal(FULL(images, generator_of(index), spec_of())[0], whole)


def test_epochs_differ() -> None:
    images, index = bytes_of(16), torch.arange(16)
    first = FULL(images, generator_of(index), spec_of())
    second = FULL(images, generator_of(index, epoch=1), spec_of())
    assert (first[0] != second[0]).flatten(1).any(1).all()
    assert not torch.equal(first[1], second[1])


def test_parameters_do_not_depend_on_channels_or_strengths() -> None:
    index = torch.arange(32)
    one = FULL.draw(bytes_of(32, 1), generator_of(index))
    three = Augment().draw(bytes_of(32, 3), generator_of(index))
    for name in ("box", "flip", "jitter", "keys", "sigma"):
        assert torch.equal(getattr(one, name), getattr(three, name)), name


def test_the_images_stay_as_they_are() -> None:
    images = bytes_of(8).float() / 255
    before = images.clone()
    FULL(images, generator_of(torch.arange(8)), spec_of())
    assert torch.equal(images, before)


def test_autocast_does_not_touch_views() -> None:
    images, index = bytes_of(8), torch.arange(8)
    plain = FULL(images, generator_of(index), spec_of())[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(FULL(images, generator_of(index), spec_of())[0], plain)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("flip", -0.1),
        ("gray", 1.2),
        ("brightness", -0.4),
        ("contrast", float("nan")),
        ("hue", 0.6),
        ("size", 1),
        ("scale", (0.0, 1.0)),
        ("scale", (0.5, 1.5)),
        ("scale", (0.9, 0.2)),
        ("ratio", (0.0, 1.0)),
        ("blur_sigma", (2.0, 0.1)),
        ("solarize_threshold", 255.0),
        ("interpolation", "nearest"),
        ("order", ("jitter", "gray")),
    ],
)
def test_bad_values_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{field} is "):
        Augment(**{field: value})


def test_bad_images_are_refused() -> None:
    index = torch.arange(2)
    with pytest.raises(ValueError, match="spec has 3 channels"):
        FULL(bytes_of(2, 1), generator_of(index), spec_of(3))
    with pytest.raises(TypeError, match="give uint8"):
        FULL(bytes_of(2).int(), generator_of(index), spec_of(3))
    with pytest.raises(ValueError, match="generator holds 2 streams, batch 3"):
        FULL(bytes_of(3), generator_of(index), spec_of(3))
