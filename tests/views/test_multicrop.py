"""MultiCrop: order, sizes and areas of the views."""

from __future__ import annotations

import pytest
import torch

from unlabeled.data.source import ImageSpec
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import Augment
from unlabeled.views.multicrop import MultiCrop


def spec_of(size: int) -> ImageSpec:
    return ImageSpec(channels=1, size=size, mean=(0.5,), std=(0.25,))


def test_large_views_come_first() -> None:
    views = MultiCrop(Augment(scale=(0.3, 1.0)), Augment(scale=(0.05, 0.3)), small_count=3)
    fitted = views.fit(spec_of(28))
    index = torch.arange(50)
    images = torch.randint(0, 256, (50, 1, 28, 28), dtype=torch.uint8)
    result = fitted({"views": [images], "index": index}, SampleGenerator(0, 0, index))
    assert [view.shape[-1] for view in result["views"]] == [28, 28, 12, 12, 12]
    shares = [(box[:, 2] * box[:, 3] / 28**2).mean() for box in result["box"]]
    assert min(shares[:2]) > 0.5
    assert max(shares[2:]) < 0.25
    assert len({view.sum().item() for view in result["views"]}) == 5
    assert fitted.spec == spec_of(28)


@pytest.mark.parametrize(("size", "small"), [(224, 96), (28, 12), (32, 14), (16, 8), (96, 42)])
def test_the_small_size_follows_the_large_one(size: int, small: int) -> None:
    assert MultiCrop(Augment(), Augment()).fit(spec_of(size)).small.size == small
    assert MultiCrop(Augment(size=size), Augment()).fit(spec_of(64)).small.size == small
    assert MultiCrop(Augment(), Augment(size=10)).fit(spec_of(size)).small.size == 10


def test_bad_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="large_count is 0"):
        MultiCrop(Augment(), Augment(), large_count=0)
    with pytest.raises(ValueError, match="small_size_ratio is 2"):
        MultiCrop(Augment(), Augment(), small_size_ratio=2.0)
