import pytest
import torch

from unlabeled.ops.propagation import (
    boundary,
    boundary_similarity,
    propagate,
    region_similarity,
)

OPTIONS = {"context": 2, "radius": 9.0, "top": 1, "temperature": 0.05}


def test_labels_follow_features_that_move():
    """Every position has a feature of its own; the whole grid moves by one column a frame."""
    grid = torch.eye(12).view(12, 3, 4)
    film = torch.stack([grid.roll(time, dims=2) for time in range(4)])[None]
    first = torch.zeros(1, 2, 3, 4)
    first[0, 1, 0, 0] = 1
    first[0, 0] = 1 - first[0, 1]
    found = propagate(film, first, **OPTIONS)
    for time in range(4):
        assert found[0, time, 1].nonzero().tolist() == [[0, time]]
    torch.testing.assert_close(found.sum(2), torch.ones(1, 4, 3, 4))


def test_far_positions_are_searched_in_the_first_frame_only():
    film = torch.zeros(1, 3, 2, 1, 6)
    film[0, :, 0] = 1  # the ground
    film[0, 0, :, 0, 0] = torch.tensor([0.0, 1.0])  # a thing at 0, then at 5, then at 0
    film[0, 1, :, 0, 5] = torch.tensor([0.0, 1.0])
    film[0, 2, :, 0, 0] = torch.tensor([0.0, 1.0])
    first = torch.zeros(1, 2, 1, 6)
    first[0, 1, 0, 0] = 1
    first[0, 0, 0, 1:] = 1
    near = propagate(film, first, **{**OPTIONS, "radius": 1.0})
    assert near[0, 1, 1, 0, 5] == 1, "found in the first frame, however far"
    assert near[0, 2, 1, 0, 0] == 1


def test_several_positions_are_weighted_by_a_softmax():
    film = torch.tensor([[1.0, 0.0], [0.6, 0.8]]).T.reshape(1, 1, 2, 1, 2).expand(1, 2, 2, 1, 2)
    first = torch.eye(2).view(1, 2, 1, 2)
    found = propagate(film, first, context=1, radius=9.0, top=2, temperature=0.5)
    weight = torch.tensor([1.0, 0.6]).div(0.5).softmax(0)
    torch.testing.assert_close(found[0, 1, :, 0, 0], weight)


def test_regions_by_hand():
    one = torch.zeros(4, 4, dtype=torch.bool)
    other = one.clone()
    one[:2], other[1:3] = True, True
    assert region_similarity(one, other).item() == pytest.approx(4 / 12)
    assert region_similarity(one & ~one, other & ~other).item() == 1
    assert region_similarity(one, other & ~other).item() == 0


def test_boundaries_by_hand():
    square = torch.zeros(20, 20, dtype=torch.bool)
    square[5:11, 5:11] = True
    assert boundary(square).sum() == 20
    assert boundary(torch.ones(5, 5, dtype=torch.bool)).sum() == 0, "the frame's edge is none"
    assert boundary_similarity(square, square).item() == 1
    near, far = square.roll(1, dims=1), square.roll(9, dims=1)
    assert boundary_similarity(near, square, tolerance=1 / 28.3).item() == 1
    assert boundary_similarity(far, square, tolerance=1 / 28.3).item() == 0
    assert boundary_similarity(square & ~square, square).item() == 0
