import pytest
import torch

from unlabeled.ops.rotate import quarter_turns


def test_each_map_gets_its_own_turn():
    x = torch.randn(6, 2, 5, 5)
    turns = torch.tensor([0, 1, 2, 3, 5, -1])
    turned = quarter_turns(x, turns)
    for row, turn in enumerate(turns.tolist()):
        assert torch.equal(turned[row], torch.rot90(x[row], turn, (1, 2)))
    assert torch.equal(quarter_turns(turned, -turns), x)


def test_counterclockwise():
    x = torch.zeros(1, 1, 3, 3)
    x[0, 0, 0, 2] = 1  # top right
    assert quarter_turns(x, torch.tensor([1]))[0, 0, 0, 0] == 1  # top left


def test_no_squares_are_refused():
    with pytest.raises(ValueError, match=r"maps are \[3, 4\]"):
        quarter_turns(torch.zeros(1, 1, 3, 4), torch.tensor([0]))
