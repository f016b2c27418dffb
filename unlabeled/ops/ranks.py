"""Rank correlations: whether one score orders models as another does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class RankCorrelation(NamedTuple):
    """Spearman's rho and Kendall's tau-b of so many pairs; NaN where one side is constant.

    ``chance`` is how often an order at random has a tau as far from 0: exact for few pairs without
    equal values, else by the normal approximation. Of 4 pairs it is never below 1 / 12.
    """

    rho: float
    tau: float
    pairs: int
    chance: float


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> RankCorrelation:
    """Return how alike two scores order the same models; equal values share their mean rank.

    Pairs with a value that is not finite are left out.

    Raises:
        ValueError: lists of different lengths.
    """
    from scipy.stats import kendalltau, spearmanr

    if len(first) != len(second):
        raise ValueError(f"{len(first)} values and {len(second)}: give one of each for each model")
    pairs = [
        (a, b) for a, b in zip(first, second, strict=True) if math.isfinite(a) and math.isfinite(b)
    ]
    if len({a for a, _ in pairs}) < 2 or len({b for _, b in pairs}) < 2:
        return RankCorrelation(math.nan, math.nan, len(pairs), math.nan)
    left, right = zip(*pairs, strict=True)
    rho, tau = spearmanr(left, right).statistic, kendalltau(left, right)
    return RankCorrelation(float(rho), float(tau.statistic), len(pairs), float(tau.pvalue))
