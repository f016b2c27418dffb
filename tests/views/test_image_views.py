"""TwoViews, Plain and the augmentations of the papers."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from unlabeled.data.source import ImageSpec
from unlabeled.method import Batch
from unlabeled.recipe import describe, rebuild
from unlabeled.views import image
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import Augment, OneView, Plain, TwoViews

SPEC = ImageSpec(channels=3, size=16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


def raw(count: int = 6, side: int = 20) -> Batch:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)
    index = torch.arange(count)
    return {"views": [images], "index": index, "label": index % 2, "path": ["a"] * count}


def test_two_views_return_a_new_batch() -> None:
    batch = raw()
    views = TwoViews(Augment()).fit(SPEC)
    result = views(batch, SampleGenerator(0, 0, batch["index"]))
    assert len(batch["views"]) == 1
    assert [view.shape for view in result["views"]] == [(6, 3, 16, 16)] * 2
    assert not torch.equal(*result["views"])
    assert not torch.equal(*result["box"])
    assert [flip.dtype for flip in result["flip"]] == [torch.bool] * 2
    for key in ("index", "label", "path"):
        assert result[key] is batch[key]  # type: ignore[literal-required]


def test_one_view_is_the_first_of_two() -> None:
    batch = raw()
    one = OneView(Augment(size=12)).fit(SPEC)
    two = TwoViews(Augment(size=12)).fit(SPEC)
    assert one.spec == two.spec
    result = one(batch, SampleGenerator(0, 0, batch["index"]))
    expected = two(batch, SampleGenerator(0, 0, batch["index"]))
    for key in ("views", "box", "flip"):
        (found,) = result[key]  # type: ignore[literal-required]
        assert torch.equal(found, expected[key][0])  # type: ignore[literal-required]


def test_boxes_and_flips_reproduce_the_crop() -> None:
    batch = raw()
    result = TwoViews(Augment()).fit(SPEC)(batch, SampleGenerator(0, 0, batch["index"]))
    for view, boxes, flips in zip(result["views"], result["box"], result["flip"], strict=True):
        for place, source in enumerate(batch["views"][0]):
            crop = reference.resized_crop(
                source / 255, *boxes[place].int().tolist(), size=[16, 16], antialias=True
            )
            crop = reference.horizontal_flip(crop) if flips[place] else crop
            crop = reference.normalize(crop, list(SPEC.mean), list(SPEC.std))
            torch.testing.assert_close(view[place], crop, rtol=0, atol=1e-4)


def test_the_second_distribution_is_used() -> None:
    batch = raw(200)
    views = TwoViews(Augment(flip=0.0), Augment(flip=1.0)).fit(SPEC)
    flips = views(batch, SampleGenerator(0, 0, batch["index"]))["flip"]
    assert not flips[0].any()
    assert flips[1].all()


def test_a_given_size_overrides_the_data() -> None:
    assert TwoViews(Augment()).fit(SPEC).spec == SPEC
    fitted = TwoViews(Augment(size=8)).fit(SPEC)
    assert fitted.spec is not None
    assert fitted.spec.size == 8
    assert fitted.fit(SPEC) == fitted
    with pytest.raises(ValueError, match="sides 8 and 16"):
        TwoViews(Augment(size=8), Augment()).fit(SPEC)


def test_views_must_be_fitted_and_fed_raw_batches() -> None:
    batch = raw()
    generator = SampleGenerator(0, 0, batch["index"])
    with pytest.raises(ValueError, match="call fit"):
        TwoViews(Augment())(batch, generator)
    views = TwoViews(Augment()).fit(SPEC)
    with pytest.raises(ValueError, match="batch has 2 views"):
        views(views(batch, generator), generator)


@pytest.mark.parametrize("size", [16, 224])
def test_plain_equals_resize_and_center_crop_on_square_images(size: int) -> None:
    spec = ImageSpec(channels=3, size=size, mean=SPEC.mean, std=SPEC.std)
    source = raw(2, side=256)["views"][0]
    expected = source / 255
    if size == 16:
        expected = reference.resize(expected, [16, 16], antialias=True)
    expected = reference.center_crop(expected, [size, size])
    expected = reference.normalize(expected, list(SPEC.mean), list(SPEC.std))
    for form in (source, list(source)):
        view = Plain(spec)({"views": [form], "index": torch.arange(2)})
        torch.testing.assert_close(view, expected, rtol=0, atol=1e-4)


def test_plain_takes_the_center_of_long_images_and_the_whole_of_fitting_ones() -> None:
    spec = ImageSpec(channels=1, size=64, mean=(0.0,), std=(1.0,))
    wide = torch.zeros(1, 64, 6400, dtype=torch.uint8)
    wide[:, :, 3168:3232] = 255
    exact = torch.randint(0, 256, (1, 64, 64), dtype=torch.uint8)
    tiny = torch.full((1, 1, 1), 255, dtype=torch.uint8)
    views = Plain(spec)({"views": [[wide, exact, tiny]], "index": torch.arange(3)})
    assert views[0].min() > 0.999
    torch.testing.assert_close(views[1], exact / 255, rtol=0, atol=1e-6)
    assert views[2].min() > 0.999
    with pytest.raises(ValueError, match=r"crop is 1\.5"):
        Plain(spec, crop=1.5)


@pytest.mark.parametrize(
    "augment",
    [
        image.simclr_augment(),
        image.moco_v1_augment(),
        image.moco_v2_augment(),
        *image.byol_augments(),
        *image.barlow_augments(),
    ],
)
def test_published_augmentations_run_and_have_a_text(augment: Augment) -> None:
    views = TwoViews(augment).fit(SPEC)
    assert rebuild(describe(views)) == views
    batch = raw(3)
    result = views(batch, SampleGenerator(0, 0, batch["index"]))
    assert all(view.isfinite().all() for view in result["views"])


def test_published_strengths() -> None:
    simclr = image.simclr_augment(strength=0.5, blur=0.0, size=32)
    assert (simclr.brightness, simclr.hue, simclr.blur, simclr.size) == (0.4, 0.1, 0.0, 32)
    first, second = image.byol_augments()
    assert (first.blur, first.solarize, second.blur, second.solarize) == (1.0, 0.0, 0.1, 0.2)
    assert (first.saturation, first.hue) == (0.2, 0.1)
    assert image.moco_v1_augment().order[0] == "gray"
    assert image.moco_v1_augment().jitter == 1.0
    assert (image.moco_v2_augment().hue, image.moco_v2_augment().scale) == (0.1, (0.2, 1.0))
