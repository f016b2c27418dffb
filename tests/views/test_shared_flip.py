import pytest
import torch

from unlabeled.data.source import ImageSpec
from unlabeled.views.augment import Augment
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.shared_flip import SharedFlip

SPEC = ImageSpec(channels=1, size=16, mean=(0.0,), std=(1.0,))
WHOLE = Augment(scale=(1.0, 1.0), ratio=(1.0, 1.0))


def draw(views, count=200):
    index = torch.arange(count)
    images = torch.randint(0, 256, (count, 1, 16, 16), dtype=torch.uint8)
    return images, views.fit(SPEC)(
        {"views": [images], "index": index}, SampleGenerator(0, 0, index)
    )


def test_the_flip_is_shared_and_the_crop_is_not():
    _, batch = draw(SharedFlip(Augment(scale=(0.3, 1.0))))
    one, two = batch["flip"]
    assert torch.equal(one, two)
    assert 0.3 < one.float().mean() < 0.7
    assert (batch["box"][0] != batch["box"][1]).any(1).float().mean() > 0.9
    assert (batch["views"][0] != batch["views"][1]).flatten(1).any(1).float().mean() > 0.95


def test_whole_images_are_the_image_or_its_mirror():
    images, batch = draw(SharedFlip(WHOLE))
    plain = images.float() / 255
    flip = batch["flip"][0]
    torch.testing.assert_close(batch["views"][0][~flip], plain[~flip], atol=1e-5, rtol=0)
    torch.testing.assert_close(batch["views"][1][flip], plain[flip].flip(3), atol=1e-5, rtol=0)


def test_translations_mirror_the_edges():
    images, batch = draw(SharedFlip(Augment(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0), shift=2))
    padded = torch.nn.functional.pad(images.float() / 255, (2,) * 4, mode="reflect")
    found = []
    for view, source in zip(batch["views"][0], padded, strict=True):
        fits = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if torch.allclose(view, source[:, top : top + 16, left : left + 16], atol=1e-5)
        ]
        assert len(fits) == 1
        found += fits
    assert len(set(found)) == 25
    assert abs(found.count((2, 2)) / 200 - (0.2 + 0.8 / 25)) < 0.1


def test_bad_numbers_are_refused():
    with pytest.raises(ValueError, match="shift is -1"):
        SharedFlip(WHOLE, shift=-1)
    with pytest.raises(ValueError, match="call fit"):
        SharedFlip(WHOLE)({"views": [torch.zeros(1)], "index": torch.arange(1)}, None)
