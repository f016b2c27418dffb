import pytest
import torch

from unlabeled.data.source import ImageSpec
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import TwoViews
from unlabeled.views.mild import mild_augment
from unlabeled.views.multi_instance import MultiInstance, SingleInstance, pairs

SPEC = ImageSpec(channels=1, size=8, mean=(0.0,), std=(1.0,))
COUNTS = (1, 2, 5)
AUGMENT = mild_augment(strength=0.0, scale=(1.0, 1.0))


def case_batch(repeats=20):
    """Image i of case c is flat with the value (10 c + i) / 255."""
    counts = COUNTS * repeats
    instances = [
        torch.stack([torch.full((1, 8, 8), 10 * case + i) for i in range(count)]).byte()
        for case, count in enumerate(counts[: len(COUNTS)])
    ] * repeats
    index = torch.arange(len(counts))
    first = torch.stack([case[0] for case in instances])
    return {"views": [first], "index": index, "instances": instances}, index


def shown(view):
    return (view.mean((1, 2, 3)) * 255).round().long()


def test_positives_are_distinct_images_of_one_case():
    batch, index = case_batch()
    found = MultiInstance(AUGMENT).fit(SPEC)(batch, SampleGenerator(0, 0, index))
    one, two = (shown(view) for view in found["views"])
    assert "instances" not in found
    assert torch.equal(one // 10, index % 3)
    assert torch.equal(two // 10, index % 3)
    several = index % 3 > 0
    assert (one != two)[several].all()
    assert (one == two)[~several].all()


def test_single_instances_share_the_image_and_change_with_the_epoch():
    batch, index = case_batch()
    views = SingleInstance(AUGMENT).fit(SPEC)
    one, two = (shown(view) for view in views(batch, SampleGenerator(0, 0, index))["views"])
    later = shown(views(batch, SampleGenerator(0, 1, index))["views"][0])
    assert torch.equal(one, two)
    assert (one != later).any()
    assert len(one[index % 3 == 2].unique()) == 5


def test_all_pairs_are_equally_likely():
    count, size = 20000, 5
    index = torch.arange(count)
    first, second = pairs(torch.full((count,), size), SampleGenerator(3, 0, index))
    assert (first != second).all()
    seen = (first * size + second).bincount(minlength=size**2).view(size, size)
    off = seen[~torch.eye(size, dtype=torch.bool)].double()
    expected = count / (size * (size - 1))
    assert ((off - expected) ** 2 / expected).sum() < 43.8  # 19 degrees of freedom, p = 0.001


@pytest.mark.parametrize("kind", [MultiInstance, SingleInstance])
def test_cases_of_one_image_are_simclr_with_the_same_numbers(kind):
    index = torch.arange(12)
    images = torch.randint(0, 256, (12, 1, 10, 10), dtype=torch.uint8)
    augment = mild_augment()
    generator = SampleGenerator(0, 0, index)
    generator.uniform(2)  # the draw of the pair
    expected = TwoViews(augment).fit(SPEC)({"views": [images], "index": index}, generator)
    batch = {"views": [images], "index": index, "instances": [image[None] for image in images]}
    for given in (batch, {"views": [images], "index": index}):
        found = kind(augment).fit(SPEC)(given, SampleGenerator(0, 0, index))
        for one, other in zip(found["views"], expected["views"], strict=True):
            torch.testing.assert_close(one, other)


def test_views_that_are_not_fitted_say_so():
    batch, index = case_batch()
    with pytest.raises(ValueError, match="no spec"):
        MultiInstance(AUGMENT)(batch, SampleGenerator(0, 0, index))
