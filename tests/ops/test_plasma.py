import pytest
import torch

from unlabeled.ops.plasma import plasma
from unlabeled.views.generator import SampleGenerator


def generator(count=3):
    return SampleGenerator(0, 0, torch.arange(count))


def slow(side, decay, noise):
    """One cloud, point by point; ``noise`` lists [3, n, n] a scale."""
    height = [[0.0] * side for _ in range(side)]
    step = side
    for drawn in noise:
        half = step // 2
        at = lambda row, column: height[row % side][column % side]  # noqa: E731
        for i, row in enumerate(range(0, side, step)):
            for j, column in enumerate(range(0, side, step)):
                corners = [at(row + a, column + b) for a in (0, step) for b in (0, step)]
                height[row + half][column + half] = sum(corners) / 4 + drawn[0][i][j]
        for i, row in enumerate(range(0, side, step)):
            for j, column in enumerate(range(0, side, step)):
                around = ((0, half), (half, 0), (0, -half), (-half, 0))
                for kind, (y, x) in ((1, (row, column + half)), (2, (row + half, column))):
                    mean = sum(at(y + a, x + b) for a, b in around) / 4
                    height[y][x] = mean + drawn[kind][i][j]
        step = half
    found = torch.tensor(height)
    return (found - found.min()) / (found.max() - found.min())


def test_it_is_the_loop_from_point_to_point():
    same, noise, step, rough = generator(), [], 8, 1.0
    while step >= 2:
        noise.append(same.uniform(3, 8 // step, 8 // step, low=-rough, high=rough))
        step, rough = step // 2, rough / 1.5**2
    found = plasma(generator(), side=8, decay=1.5)
    for place in range(3):
        expected = slow(8, 1.5, [each[place].tolist() for each in noise])
        torch.testing.assert_close(found[place], expected, atol=1e-6, rtol=1e-5)


def test_clouds_fill_the_range_and_a_larger_decay_is_smoother():
    rough, smooth = (plasma(generator(50), side=32, decay=each) for each in (1.5, 3.0))
    for clouds in (rough, smooth):
        assert torch.equal(clouds.amin((1, 2)), torch.zeros(50))
        assert torch.equal(clouds.amax((1, 2)), torch.ones(50))
    step = [clouds.diff(dim=2).abs().mean().item() for clouds in (rough, smooth)]
    assert step[1] < 0.8 * step[0]


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="side is 12"):
        plasma(generator(), side=12, decay=2.0)
    with pytest.raises(ValueError, match=r"decay is 1\.0"):
        plasma(generator(), side=8, decay=1.0)
