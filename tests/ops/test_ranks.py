import math

import pytest

from unlabeled.ops.ranks import rank_correlation


@pytest.mark.parametrize(
    ("second", "rho"),
    [((10, 20, 30, 40), 1.0), ((4, 3, 2, 1), -1.0), ((1, 3, 2, 4), 0.8)],
)
def test_spearman_in_closed_form(second, rho):
    assert rank_correlation((1, 2, 3, 4), second).rho == pytest.approx(rho)


def test_equal_values_share_their_rank():
    assert rank_correlation((1, 1, 2), (1, 2, 3)).rho == pytest.approx(0.866025, abs=1e-6)


def test_kendall_counts_pairs():
    # of the six pairs, five agree
    assert rank_correlation((1, 2, 3, 4), (1, 3, 2, 4)).tau == pytest.approx(4 / 6)


def test_chance_counts_permutations():
    # of the 24 orders of 4, two have |tau| = 1; of the 120 of 5, ten have 0.8 or more
    assert rank_correlation((1, 2, 3, 4), (1, 2, 3, 4)).chance == pytest.approx(2 / 24)
    assert rank_correlation((1, 2, 3, 4, 5), (1, 2, 3, 5, 4)).chance == pytest.approx(10 / 120)


def test_what_has_no_order_has_no_correlation():
    assert math.isnan(rank_correlation((1, 1, 1), (1, 2, 3)).rho)
    assert math.isnan(rank_correlation((), ()).rho)
    assert rank_correlation((1, math.nan, 2, 3), (1, 9, 2, 3))[:3] == (1.0, 1.0, 3)
    with pytest.raises(ValueError, match="1 values and 2"):
        rank_correlation((1,), (1, 2))
