"""Sets of permutations that differ as much as possible, for puzzles."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Int

MOST_PLACES = 9
"""All permutations are compared at once: 10 places would have ten times as many as 9."""


def farthest_on_average(count: int, *, places: int = 9, seed: int = 0) -> Int[Tensor, "P n"]:
    """Choose permutations greedily, each with the largest mean Hamming distance to those before.

    ``p_k = argmax_p sum_{j < k} |{i : p(i) != p_j(i)}|``, from a random first one (Jigsaw,
    arXiv:1603.09246, algorithm 1). Of several that are equally far, one with the largest smallest
    distance is taken, and of these a random one: the mean alone lets in pairs that differ by one
    swap.

    Args:
        count: P, how many.
        places: n, the length of a permutation.
        seed: of the first one and of ties.

    Returns:
        int64; row y says which place each of the n places is filled from.

    Raises:
        ValueError: more permutations than there are, or more than `MOST_PLACES` places.
    """
    _check(count, places)
    return torch.from_numpy(_greedy(count, places, seed, True).copy())


def farthest_from_nearest(count: int, *, places: int = 9, seed: int = 0) -> Int[Tensor, "P n"]:
    """Choose permutations greedily, each with the largest smallest Hamming distance to the others.

    The variant without near-duplicates; of several that are equally far, one with the largest mean
    distance is taken. Arguments and errors as in `farthest_on_average`.
    """
    _check(count, places)
    return torch.from_numpy(_greedy(count, places, seed, False).copy())


def hamming(one: Int[Tensor, "P n"], other: Int[Tensor, "Q n"]) -> Int[Tensor, "P Q"]:
    """In how many places each permutation differs from each other one."""
    return (one[:, None] != other).sum(2)


def _check(count: int, places: int) -> None:
    if not 2 <= places <= MOST_PLACES:
        raise ValueError(f"places is {places}: give 2 to {MOST_PLACES}")
    if not 1 <= count <= math.factorial(places):
        raise ValueError(
            f"count is {count}: {places} places have {math.factorial(places)} permutations, "
            "give 1 to so many"
        )


@lru_cache(maxsize=8)
def _greedy(count: int, places: int, seed: int, by_mean: bool) -> NDArray[np.int64]:
    columns = _all(places)  # [places, n!]
    random = np.random.default_rng(seed)
    total = np.zeros(columns.shape[1], np.int32)
    smallest = np.full(columns.shape[1], places, np.int32)
    ties = random.permutation(columns.shape[1])
    chosen = [int(random.integers(columns.shape[1]))]
    while len(chosen) < count:
        distance = np.zeros(columns.shape[1], np.uint8)
        for column in columns:
            distance += column != column[chosen[-1]]
        total += distance
        np.minimum(smallest, distance, out=smallest)
        score: NDArray[np.int32]  # both criteria in one number, the first one first
        if by_mean:
            score = total * (places + 1) + smallest
        else:
            score = smallest * (places * count + 1) + total
        score[smallest == 0] = -1  # chosen before
        best = np.flatnonzero(score == score.max())
        chosen.append(int(best[ties[best].argmax()]))
    return columns[:, chosen].T.astype(np.int64)


def _all(places: int) -> NDArray[np.uint8]:
    """[places, places!]: all permutations, a column each."""
    found = np.zeros((1, 1), np.uint8)
    for size in range(1, places):
        grown = [np.insert(found, place, size, axis=0) for place in range(size + 1)]
        found = np.concatenate(grown, 1)
    return np.ascontiguousarray(found)
