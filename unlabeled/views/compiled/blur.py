"""Compiled: a separable Gaussian blur of a plane in place, row by row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from unlabeled.views.compiled.memory import Floats, floats, jit
from unlabeled.views.compiled.resize import load

_CUT = 4.3  # standard deviations: the taps of a Gaussian beyond weigh 2e-5 together


@jit
def gauss(weight: Floats, sigma: float, radius: int) -> int:
    """Weights of the taps 0 .. the returned radius, at most ``radius``; beyond them is nothing."""
    radius = min(radius, int(_CUT * sigma))
    total = 1.0
    for tap in range(1, radius + 1):
        total += 2 * math.exp(-0.5 * (tap / sigma) ** 2)
    for tap in range(radius + 1):
        weight[tap] = np.float32(math.exp(-0.5 * (tap / sigma) ** 2) / total)
    return radius


@jit
def _middle_and_pair(target: Floats, m: Floats, a: Floats, b: Floats, w0: Any, w1: Any) -> None:
    for i in range(len(target)):
        target[i] = w0 * m[i] + w1 * (a[i] + b[i])


@jit
def _middle_and_pairs(
    target: Floats, m: Floats, a: Floats, b: Floats, c: Floats, d: Floats, w0: Any, w1: Any, w2: Any
) -> None:
    for i in range(len(target)):
        target[i] = w0 * m[i] + w1 * (a[i] + b[i]) + w2 * (c[i] + d[i])


@jit
def _two_pairs(
    target: Floats, a: Floats, b: Floats, c: Floats, d: Floats, w1: Any, w2: Any
) -> None:
    for i in range(len(target)):
        target[i] += w1 * (a[i] + b[i]) + w2 * (c[i] + d[i])


@jit
def _blur_across(target: Floats, source: Floats, padded: int, weight: Floats, radius: int) -> None:
    size = len(source)
    margins = floats(padded, 0, size + 2 * radius)
    for i in range(radius):
        margins[i] = source[radius - i]
        margins[radius + size + i] = source[size - 2 - i]
    load(floats(padded, radius, size), source)
    middle = floats(padded, radius, size)
    left, right = floats(padded, radius - 1, size), floats(padded, radius + 1, size)
    if radius % 2:
        _middle_and_pair(target, middle, left, right, weight[0], weight[1])
    else:
        _middle_and_pairs(
            target,
            middle,
            left,
            right,
            floats(padded, radius - 2, size),
            floats(padded, radius + 2, size),
            weight[0],
            weight[1],
            weight[2],
        )
    for tap in range(3 - radius % 2, radius, 2):
        _two_pairs(
            target,
            floats(padded, radius - tap, size),
            floats(padded, radius + tap, size),
            floats(padded, radius - tap - 1, size),
            floats(padded, radius + tap + 1, size),
            weight[tap],
            weight[tap + 1],
        )


@jit
def _ring_row(ring: int, row: int, size: int, depth: int) -> Floats:
    row = abs(row)  # mirrored at the first row
    row = min(row, 2 * (size - 1) - row)  # and at the last
    return floats(ring, row % depth * size, size)


@jit
def _blur_down(target: Floats, ring: int, y: int, weight: Floats, radius: int) -> None:
    size, depth = len(target), 2 * radius + 1
    middle = _ring_row(ring, y, size, depth)
    above, below = _ring_row(ring, y - 1, size, depth), _ring_row(ring, y + 1, size, depth)
    if radius % 2:
        _middle_and_pair(target, middle, above, below, weight[0], weight[1])
    else:
        _middle_and_pairs(
            target,
            middle,
            above,
            below,
            _ring_row(ring, y - 2, size, depth),
            _ring_row(ring, y + 2, size, depth),
            weight[0],
            weight[1],
            weight[2],
        )
    for tap in range(3 - radius % 2, radius, 2):
        _two_pairs(
            target,
            _ring_row(ring, y - tap, size, depth),
            _ring_row(ring, y + tap, size, depth),
            _ring_row(ring, y - tap - 1, size, depth),
            _ring_row(ring, y + tap + 1, size, depth),
            weight[tap],
            weight[tap + 1],
        )


@jit
def blur_rows(
    plane: int,
    first: int,
    last: int,
    size: int,
    ring: int,
    ready: int,
    padded: int,
    weight: Floats,
    radius: int,
) -> int:
    """Blur rows of a plane in place; the ring keeps what the next rows need of these."""
    depth = 2 * radius + 1
    for y in range(first, last):
        while ready <= min(y + radius, size - 1):
            target = floats(ring, ready % depth * size, size)
            _blur_across(target, floats(plane, ready * size, size), padded, weight, radius)
            ready += 1
        _blur_down(floats(plane, y * size, size), ring, y, weight, radius)
    return ready
