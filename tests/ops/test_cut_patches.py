import pytest
import torch

from unlabeled.ops.patches import cut_patches, grid_side, patch_sizes


def test_patches_lie_row_by_row_and_overlap():
    image = torch.arange(2 * 3 * 8 * 10).view(2, 3, 8, 10)
    grid = cut_patches(image, patch=4, stride=2)
    assert grid.shape == (2, 3, 4, 3, 4, 4)
    for row in range(3):
        for column in range(4):
            expected = image[:, :, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4]
            assert torch.equal(grid[:, row, column], expected)


@pytest.mark.parametrize(
    ("side", "patch", "stride", "sizes", "grid"),
    [
        (256, 1 / 4, 1 / 8, (64, 32), 7),  # CPC
        (260, 80 / 260, 36 / 260, (80, 36), 6),  # CPC v2
        (32, 1 / 4, 1 / 8, (8, 4), 7),
        (28, 10 / 28, 6 / 28, (10, 6), 4),
    ],
)
def test_the_grids_of_the_papers(side, patch, stride, sizes, grid):
    assert patch_sizes(side, patch=patch, stride=stride) == sizes
    assert grid_side(side, patch=sizes[0], stride=sizes[1]) == grid


def test_rows_that_share_pixels():
    """CPC v2: three rows on nothing is shared, two rows on 8 px are."""
    rows = torch.arange(260).view(1, 1, 260, 1).expand(1, 1, 260, 260)
    grid = cut_patches(rows, patch=80, stride=36)[0, :, 0, 0, :, 0]
    seen = [set(row.tolist()) for row in grid]
    assert len(seen[0] & seen[2]) == 8
    assert not seen[0] & seen[3]


def test_impossible_patches_are_refused():
    with pytest.raises(ValueError, match=r"patch is 0 and stride 0\.5"):
        patch_sizes(28, patch=0, stride=0.5)
    with pytest.raises(ValueError, match="patches of 9 px do not fit into images of 8 x 8 px"):
        cut_patches(torch.zeros(1, 1, 8, 8), patch=9, stride=1)
