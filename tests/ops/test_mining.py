from itertools import pairwise

import pytest
import torch

from unlabeled.ops.mining import hardest, percentile_band


def test_hardest_are_the_most_similar_of_each_row_in_order():
    similarity = torch.tensor([[0.1, 0.9, -0.5, 0.4], [0.3, -0.2, 0.8, 0.7]])
    assert hardest(similarity, count=2).tolist() == [[1, 3], [2, 3]]
    assert hardest(similarity, count=0).shape == (2, 0)
    assert hardest(similarity, count=4).tolist() == [[1, 3, 0, 2], [2, 3, 0, 1]]


def test_hardest_takes_no_excluded_candidate_while_there_are_others():
    similarity = torch.tensor([[0.9, 0.1, 0.2], [0.1, 0.9, 0.2]]).fill_diagonal_(-torch.inf)
    assert hardest(similarity, count=2).tolist() == [[2, 1], [2, 0]]


def test_planted_candidates_are_found():
    generator = torch.Generator().manual_seed(0)
    similarity = torch.rand(50, 200, generator=generator)
    planted = torch.stack([torch.randperm(200, generator=generator)[:8] for _ in range(50)])
    similarity.scatter_(1, planted, 2.0)
    found = hardest(similarity, count=8)
    assert torch.equal(found.sort(1).values, planted.sort(1).values)


def test_selection_keeps_no_graph():
    similarity = torch.rand(3, 5, requires_grad=True)
    assert not hardest(similarity, count=2).requires_grad
    assert not percentile_band(similarity, low=0, high=50).requires_grad


def slow_band(row, low, high):
    allowed = [n for n, value in enumerate(row) if value > -torch.inf]
    ordered = sorted(allowed, key=lambda n: (-row[n], n))
    return {n for r, n in enumerate(ordered) if low <= 100 * r / len(allowed) < high}


@pytest.mark.parametrize(("low", "high"), [(0, 5), (0, 10), (5, 30), (50, 95), (95, 100), (7, 7)])
def test_band_equals_the_loop(low, high):
    similarity = torch.rand(6, 40, generator=torch.Generator().manual_seed(1)).double()
    similarity = (similarity * 20).round() / 20  # with ties
    similarity[torch.rand(6, 40, generator=torch.Generator().manual_seed(2)) < 0.2] = -torch.inf
    band = percentile_band(similarity, low=low, high=high)
    for row, marked in zip(similarity.tolist(), band, strict=True):
        assert set(marked.nonzero().flatten().tolist()) == slow_band(row, low, high)


def test_bands_that_meet_divide_all_candidates():
    similarity = torch.rand(4, 37).fill_diagonal_(-torch.inf)
    edges = [0, 5, 12.5, 33.3, 95, 100]
    bands = [percentile_band(similarity, low=a, high=b) for a, b in pairwise(edges)]
    assert torch.equal(torch.stack(bands).sum(0), (similarity > -torch.inf).long())


def test_band_and_hardest_agree():
    similarity = torch.rand(5, 100)
    band = percentile_band(similarity, low=0, high=7)
    assert torch.equal(band.nonzero()[:, 1].view(5, 7), hardest(similarity, count=7).sort(1).values)


def test_says_what_is_wrong():
    similarity = torch.rand(2, 3)
    with pytest.raises(ValueError, match="count is 4, there are 3 candidates"):
        hardest(similarity, count=4)
    for low, high in ((-1, 5), (10, 5), (0, 101)):
        with pytest.raises(ValueError, match=f"band is {low} to {high}"):
            percentile_band(similarity, low=low, high=high)
