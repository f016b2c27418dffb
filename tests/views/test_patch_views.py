from __future__ import annotations

import pytest
import torch

from unlabeled.data.source import ImageSpec
from unlabeled.ops.patches import cut_patches
from unlabeled.views.augment import Augment
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import Plain
from unlabeled.views.patches import Patches

WHOLE = Augment(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)


def spec_of(channels: int = 3, size: int = 16) -> ImageSpec:
    return ImageSpec(channels=channels, size=size, mean=(0.4,) * channels, std=(0.2,) * channels)


def draw(views: Patches, *, count: int = 5, channels: int = 3, size: int = 16, seed: int = 0):
    index = torch.arange(count)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, channels, size, size), generator=generator)
    batch = {"views": [images.byte()], "index": index}
    fitted = views.fit(spec_of(channels, size))
    found = fitted(batch, SampleGenerator(seed, 0, index))
    return Plain(spec_of(channels, size))(batch), found["views"][0]


def test_unchanged_patches_are_those_of_the_plain_image() -> None:
    plain, patches = draw(Patches(WHOLE, inner=1.0))
    assert patches.shape == (5, 7, 7, 3, 4, 4)
    torch.testing.assert_close(patches, cut_patches(plain, patch=4, stride=2))


def test_sub_crops_keep_the_size_and_differ_from_patch_to_patch() -> None:
    plain, patches = draw(Patches(WHOLE, patch=0.5, stride=0.25, inner=0.75), count=40)
    grid = cut_patches(plain, patch=8, stride=4)
    assert patches.shape == grid.shape
    assert not patches[..., 0, :].any()
    assert not patches[..., :, -1].any()
    starts = set()
    for row in range(3):
        for found, source in zip(patches[:, row, 0], grid[:, row, 0], strict=True):
            fits = [
                (top, left)
                for top in range(3)
                for left in range(3)
                if (found[:, 1:7, 1:7] - source[:, top : top + 6, left : left + 6]).abs().max()
                < 1e-4
            ]
            assert len(fits) == 1
            starts.add(fits[0])
    assert len(starts) == 9


def test_each_patch_has_colors_of_its_own() -> None:
    """A constant image: all patches would be alike, and all are after image-wise jitter."""
    views = Patches(WHOLE, Augment(brightness=0.5, jitter=1.0), inner=1.0)
    index = torch.arange(3)
    batch = {"views": [torch.full((3, 3, 16, 16), 128, dtype=torch.uint8)], "index": index}
    found = views.fit(spec_of())(batch, SampleGenerator(0, 0, index))["views"][0]
    means = found.mean((3, 4, 5)).flatten(1)
    assert (means.std(1) > 0.1).all()
    together = Patches(Augment(scale=(1.0, 1.0), ratio=(1.0, 1.0), brightness=0.5, jitter=1.0),
                       inner=1.0)  # fmt: skip
    found = together.fit(spec_of())(batch, SampleGenerator(0, 0, index))["views"][0]
    assert found.mean((3, 4, 5)).flatten(1).std(1).max() < 1e-5


def test_one_channel_is_kept() -> None:
    plain, patches = draw(Patches(WHOLE, inner=1.0, drop=1.0), count=30)
    grid = cut_patches(plain, patch=4, stride=2)
    kept = patches.abs().sum((4, 5)) > 0
    assert (kept.sum(3) == 1).all()
    assert all((kept[..., channel].float().mean() - 1 / 3).abs() < 0.05 for channel in range(3))
    torch.testing.assert_close(patches[kept], grid[kept])
    _, gray = draw(Patches(WHOLE, inner=1.0, drop=1.0), channels=1)
    assert (gray.abs().sum((3, 4, 5)) > 0).all()


def test_warps_hit_their_share_of_the_patches() -> None:
    plain, patches = draw(Patches(WHOLE, patch=0.5, stride=0.25, inner=1.0, warp=0.2), count=60)
    grid = cut_patches(plain, patch=8, stride=4)
    changed = (patches - grid).abs().amax((3, 4, 5)) > 1e-3
    assert abs(changed.float().mean().item() - (1 - 0.8**3)) < 0.08
    assert patches.isfinite().all()


def test_a_warp_of_nothing_is_the_identity() -> None:
    options = {"shear": 0.0, "rotation": 0.0, "elastic": 0.0}
    plain, patches = draw(Patches(WHOLE, inner=1.0, warp=1.0, **options))
    torch.testing.assert_close(patches, cut_patches(plain, patch=4, stride=2), atol=1e-4, rtol=1e-4)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    views = Patches(Augment(scale=(0.5, 1.0)), Augment(brightness=0.4, contrast=0.4), warp=0.5,
                    drop=0.5).fit(spec_of())  # fmt: skip
    images = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    index = torch.arange(6)
    whole = views({"views": [images], "index": index}, SampleGenerator(0, 0, index))["views"][0]
    part = views({"views": [images[4:]], "index": index[4:]}, SampleGenerator(0, 0, index[4:]))
    torch.testing.assert_close(part["views"][0], whole[4:], rtol=0, atol=1e-6)


def test_streams_of_parts_are_independent_and_repeatable() -> None:
    index = torch.arange(4)
    one = SampleGenerator(0, 0, index).split(50)
    numbers = one.uniform(20)
    assert numbers.shape == (200, 20)
    assert len(numbers.unique()) > 3990
    assert torch.equal(numbers, SampleGenerator(0, 0, index).split(50).uniform(20))
    part = SampleGenerator(0, 0, index[2:3]).split(50).uniform(20)
    assert torch.equal(part, numbers[100:150])
    other = SampleGenerator(0, 0, index)
    other.uniform()
    assert not torch.equal(other.split(50).uniform(20), numbers)


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"warp is 1\.5"):
        Patches(WHOLE, warp=1.5)
    with pytest.raises(ValueError, match="inner is 0"):
        Patches(WHOLE, inner=0)
    with pytest.raises(ValueError, match="patch is 2"):
        Patches(WHOLE, patch=2)
    with pytest.raises(ValueError, match="call fit"):
        Patches(WHOLE)({"views": [torch.zeros(1)], "index": torch.arange(1)}, None)
