import itertools

import pytest
import torch

from unlabeled.ops.permutations import farthest_from_nearest, farthest_on_average, hamming

BOTH = pytest.mark.parametrize("choose", [farthest_on_average, farthest_from_nearest])


def distances(rows):
    found = hamming(rows, rows)
    return found[~torch.eye(len(rows), dtype=torch.bool)]


@BOTH
def test_rows_are_permutations_and_no_two_are_equal(choose):
    rows = choose(200)
    assert rows.dtype == torch.int64
    assert torch.equal(rows.sort(1).values, torch.arange(9).expand(200, 9))
    assert distances(rows).min() > 0


def test_the_first_nine_differ_everywhere():
    """A Latin square: the largest mean distance is 9, and it can be had nine times."""
    rows = farthest_on_average(9)
    assert (distances(rows) == 9).all()
    assert torch.equal(rows.sort(0).values, torch.arange(9)[:, None].expand(9, 9))


@pytest.mark.parametrize(("count", "expected"), [(100, 8.08), (1000, 8.008)])
def test_mean_distance_of_the_papers_sets(count, expected):
    assert distances(farthest_on_average(count)).double().mean().item() == pytest.approx(
        expected, abs=5e-4
    )


@pytest.mark.parametrize(("count", "expected"), [(10, 8), (100, 6), (1000, 5)])
def test_smallest_distance_without_near_duplicates(count, expected):
    assert distances(farthest_from_nearest(count)).min() == expected


@BOTH
def test_each_step_is_the_best_one_by_a_slow_loop(choose):
    rows = choose(8, places=4).tolist()
    everything = list(itertools.permutations(range(4)))
    for size in range(1, 8):
        chosen = [tuple(row) for row in rows[:size]]

        def score(one, chosen=chosen):
            apart = [sum(a != b for a, b in zip(one, other, strict=True)) for other in chosen]
            both = sum(apart), min(apart)
            return both if choose is farthest_on_average else both[::-1]

        left = [one for one in everything if one not in chosen]
        assert score(tuple(rows[size])) == max(map(score, left))


@BOTH
def test_all_permutations_of_four_places(choose):
    rows = choose(24, places=4)
    assert len(rows.unique(dim=0)) == 24


def test_the_seed_says_which_set():
    assert torch.equal(farthest_on_average(20), farthest_on_average(20))
    assert not torch.equal(farthest_on_average(20), farthest_on_average(20, seed=1))
    rows = farthest_on_average(20)
    rows.zero_()  # a caller's change is its own
    assert farthest_on_average(20).any()


def test_distance_counts_places():
    one = torch.tensor([[0, 1, 2], [2, 1, 0]])
    assert hamming(one, torch.tensor([[0, 1, 2], [1, 2, 0]])).tolist() == [[0, 3], [2, 2]]


@pytest.mark.parametrize(
    ("count", "places", "text"),
    [(7, 3, "3 places have 6 permutations"), (0, 9, "count is 0"), (5, 10, "places is 10")],
)
def test_bad_numbers_are_refused(count, places, text):
    with pytest.raises(ValueError, match=text):
        farthest_on_average(count, places=places)
