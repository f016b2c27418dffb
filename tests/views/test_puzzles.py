from __future__ import annotations

import pytest
import torch

from unlabeled.data.source import ImageSpec
from unlabeled.ops.permutations import farthest_from_nearest
from unlabeled.views.augment import Augment
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.puzzles import Puzzles, cut_tiles, normalized

WHOLE = Augment(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)


def spec_of(channels: int = 3, size: int = 24) -> ImageSpec:
    return ImageSpec(channels=channels, size=size, mean=(0.4,) * channels, std=(0.2,) * channels)


def noise(count: int = 5, channels: int = 3, size: int = 24) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, channels, size, size), generator=generator).byte()


def draw(views: Puzzles, images: torch.Tensor, *, seed: int = 0, epoch: int = 0):
    index = torch.arange(len(images))
    batch = {"views": [images], "index": index}
    fitted = views.fit(spec_of(images.shape[1], images.shape[-1]))
    return fitted, fitted(batch, SampleGenerator(seed, epoch, index))


def test_the_inverse_permutation_restores_the_image() -> None:
    images = noise()
    views, batch = draw(Puzzles(WHOLE, tile=1.0, shift=0, count=50), images)
    (tiles,), (order,) = batch["views"], batch["order"]
    assert tiles.shape == (5, 9, 3, 8, 8)
    inverse = views.permutations[order].argsort(1)
    sorted_tiles = tiles.take_along_dim(inverse[:, :, None, None, None], 1)
    grid = (images / 255).unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(1, 2)
    torch.testing.assert_close(sorted_tiles, normalized(grid), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(tiles, sorted_tiles)


def test_tiles_lie_inside_their_cells_with_gaps_of_any_size() -> None:
    """Rows and columns are written into the pixels: from them follow the tile's place and size."""
    row = torch.arange(24.0)[:, None].expand(24, 24) / 255
    images = torch.stack([row, row.T, row]).expand(300, 3, 24, 24).contiguous()
    place = SampleGenerator(0, 0, torch.arange(300)).integers(9, 1, 2, high=4)
    tiles = cut_tiles(images, place.expand(300, 9, 3, 2), tiles=3, side=5) * 255
    assert tiles.shape == (300, 9, 3, 5, 5)
    for number in range(9):
        top, left = number // 3 * 8, number % 3 * 8
        rows, columns = tiles[:, number, 0, :, 0], tiles[:, number, 1, 0]
        for found, corner in ((rows, top), (columns, left)):
            torch.testing.assert_close(found - found[:, :1], torch.arange(5.0).expand(300, 5))
            assert set(found[:, 0].round().int().tolist()) == {corner + room for room in range(4)}
    # each tile at a place of its own: gaps between neighbors are of all sizes
    gap = (tiles[:, 1, 1, 0, 0] - tiles[:, 0, 1, 0, -1]).round().int() - 1
    assert set(gap.tolist()) == set(range(7))


def test_brightness_does_not_tell_where_a_tile_lies() -> None:
    """Of a picture of one slope all tiles look alike."""
    images = torch.arange(24.0).expand(40, 1, 24, 24).contiguous() / 255
    _, batch = draw(Puzzles(WHOLE, tile=5 / 8, count=20), images)
    (tiles,) = batch["views"]
    torch.testing.assert_close(tiles, tiles[:1, :1].expand_as(tiles), atol=2e-2, rtol=0)


def test_channels_move_against_each_other_by_at_most_the_shift() -> None:
    images = noise(60, 1).expand(60, 3, 24, 24).contiguous()
    _, still = draw(Puzzles(WHOLE, tile=4 / 8, shift=0, count=10), images)
    (tiles,) = still["views"]
    torch.testing.assert_close(tiles[:, :, 0], tiles[:, :, 2])
    views, moved = draw(Puzzles(WHOLE, tile=4 / 8, shift=1, count=10), images)
    (tiles,), (order,) = moved["views"], moved["order"]
    places = views.permutations[order]
    starts = torch.stack(
        [_starts(images[:, 0], tiles[:, :, channel], places) for channel in (0, 1)]
    )
    assert (starts[0] != starts[0][:, :1]).any(2)[
        :, 1:
    ].float().mean() > 0.9  # each tile for itself
    between = (starts[0] - starts[1]).abs()
    assert set(between.flatten().tolist()) == {0, 1, 2}
    assert starts.min() == 0
    assert starts.max() == 4


def _starts(images, tiles, places):
    """Where in its cell each tile was cut: the only place that fits. [B, 9, 2]."""
    found = torch.zeros(*places.shape, 2, dtype=torch.int64)
    for sample in range(len(images)):
        for number in range(9):
            cell = int(places[sample, number])
            corner = images[sample, cell // 3 * 8 :, cell % 3 * 8 :][:8, :8] / 255
            windows = normalized(corner.unfold(0, 4, 1).unfold(1, 4, 1))
            fits = ((windows - tiles[sample, number]).abs().amax((2, 3)) < 1e-3).nonzero()
            assert len(fits) == 1
            found[sample, number] = fits[0]
    return found


def test_each_channel_of_each_tile_has_statistics_of_its_own() -> None:
    _, batch = draw(Puzzles(WHOLE, tile=6 / 8), noise())
    (tiles,) = batch["views"]
    std, mean = torch.std_mean(tiles, (-2, -1), correction=0)
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-5, rtol=0)
    torch.testing.assert_close(std, torch.ones_like(std))
    _, flat = draw(Puzzles(WHOLE), torch.full((3, 3, 24, 24), 77, dtype=torch.uint8))
    assert flat["views"][0].abs().max() < 1e-2


def test_orders_are_uniform_and_new_in_each_epoch() -> None:
    views, first = draw(Puzzles(WHOLE, count=10), noise(2000, 1))
    _, second = draw(Puzzles(WHOLE, count=10), noise(2000, 1), epoch=1)
    (order,), (again,) = first["order"], second["order"]
    assert order.dtype == torch.int64
    assert (order.bincount(minlength=10) - 200).abs().max() < 60
    assert 0.05 < (order == again).float().mean() < 0.15
    assert views.permutations.shape == (10, 9)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    views = Puzzles(Augment(scale=(0.5, 1.0), gray=0.3)).fit(spec_of())
    images, index = noise(6), torch.arange(6)
    whole = views({"views": [images], "index": index}, SampleGenerator(0, 0, index))
    part = views({"views": [images[4:]], "index": index[4:]}, SampleGenerator(0, 0, index[4:]))
    torch.testing.assert_close(part["views"][0], whole["views"][0][4:])
    assert torch.equal(part["order"][0], whole["order"][0][4:])


def test_the_encoder_sees_whole_images_at_the_scale_of_the_tiles() -> None:
    assert Puzzles(WHOLE).fit(spec_of(size=28)).spec == spec_of(size=27)
    sized = Puzzles(Augment(size=36)).fit(spec_of(size=28))
    assert sized.spec == spec_of(size=36)
    assert sized.sides == (12, 10)
    paper = Puzzles(Augment(size=225)).fit(spec_of(size=224))
    assert paper.sides == (75, 64)


def test_another_grid_and_another_choice() -> None:
    views, batch = draw(
        Puzzles(WHOLE, tiles=2, count=24, choose=farthest_from_nearest, tile=0.75), noise()
    )
    assert views.permutations.shape == (24, 4)
    assert batch["views"][0].shape == (5, 4, 3, 9, 9)


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="tiles is 1"):
        Puzzles(WHOLE, tiles=1)
    with pytest.raises(ValueError, match=r"tile 1\.5"):
        Puzzles(WHOLE, tile=1.5)
    with pytest.raises(ValueError, match="shift -1"):
        Puzzles(WHOLE, shift=-1)
    with pytest.raises(ValueError, match=r"224 px.*multiple, such as 222"):
        Puzzles(Augment(size=224))
    with pytest.raises(ValueError, match="call fit"):
        Puzzles(WHOLE)({"views": [noise()], "index": torch.arange(5)}, None)
