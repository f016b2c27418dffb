"""Compiled: an antialiased, separable resize of a crop, a few rows of the result at a time."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from unlabeled.views.compiled.memory import Floats, Places, floats, jit, uint8s

LINES = 4  # rows that are filtered together


class Crop(NamedTuple):
    """Where one channel of a crop lies in memory."""

    corner: int  # address of its first value
    row_step: int  # bytes
    tall: int
    wide: int
    is_float: bool


class Taps(NamedTuple):
    """What the pixels of a row or column of the result are made of."""

    place: Places  # first pixel of the source
    weight: Floats  # [number, size]
    number: int


class Room(NamedTuple):
    """Where one thread keeps its rows: addresses."""

    lines: int  # LINES rows of a crop, each with zeros behind it
    pitch: int  # values from one of them to the next
    ring: int  # for each channel the rows that the next ones are made of
    depth: int  # how many of them a resize keeps
    padded: int  # a row of the view with the blur's margins
    spare: int  # a row of the view that nobody reads


@jit
def _filter(distance: float, reach: int) -> float:
    away = abs(distance)
    if reach == 1:
        return max(1.0 - away, 0.0)
    if away < 1:
        return (1.5 * away - 2.5) * away * away + 1
    if away < 2:
        return ((-0.5 * away + 2.5) * away - 4) * away + 2
    return 0.0


@jit
def tap_count(length: int, size: int, reach: int) -> int:
    """How many pixels a pixel of the result is made of at most: even, for loops over pairs."""
    count = math.ceil(2 * reach * max(1.0, length / size))
    return count + count % 2


@jit
def fill_taps(
    place: Places, weight: Floats, length: int, reach: int, flip: bool, unit: float
) -> int:
    """Write the first pixel and the weights of each pixel of the result; they sum to ``unit``."""
    size = len(place)
    step = length / size
    stretch = max(1.0, step)
    support = stretch * reach
    count = tap_count(length, size, reach)
    for output in range(size):
        center = ((size - output - 0.5) if flip else (output + 0.5)) * step
        first = max(math.floor(center - support + 0.5), 0)
        taps = min(math.floor(center + support + 0.5), length) - first
        total = 0.0
        for tap in range(taps):
            total += _filter((first + tap + 0.5 - center) / stretch, reach)
        place[output] = first
        for tap in range(count):
            value = _filter((first + tap + 0.5 - center) / stretch, reach) * (unit / total)
            weight[tap * size + output] = np.float32(value if tap < taps else 0.0)
    return count


@jit
def _across(lines: int, pitch: int, a: Floats, b: Floats, c: Floats, d: Floats, taps: Taps) -> None:
    """Filter four rows of the source: target[o] = sum_t weight[t, o] line[place[o] + t]."""
    place, size = taps.place, len(taps.place)
    for tap in range(0, taps.number, 2):
        line_a = floats(lines, tap, pitch)
        line_b = floats(lines, tap + pitch, pitch)
        line_c = floats(lines, tap + 2 * pitch, pitch)
        line_d = floats(lines, tap + 3 * pitch, pitch)
        left, right = taps.weight[tap * size :], taps.weight[(tap + 1) * size :]
        if tap == 0:
            for o in range(size):
                near, far, one, two = place[o], place[o] + np.uint32(1), left[o], right[o]
                a[o] = one * line_a[near] + two * line_a[far]
                b[o] = one * line_b[near] + two * line_b[far]
                c[o] = one * line_c[near] + two * line_c[far]
                d[o] = one * line_d[near] + two * line_d[far]
        else:
            for o in range(size):
                near, far, one, two = place[o], place[o] + np.uint32(1), left[o], right[o]
                a[o] += one * line_a[near] + two * line_a[far]
                b[o] += one * line_b[near] + two * line_b[far]
                c[o] += one * line_c[near] + two * line_c[far]
                d[o] += one * line_d[near] + two * line_d[far]


@jit
def _mix(target: Floats, first: Any, second: Any, one: Any, two: Any, fresh: bool) -> None:
    """Target = one first + two second, or that added to it."""
    if fresh:
        for i in range(len(target)):
            target[i] = one * np.float32(first[i]) + two * np.float32(second[i])
    else:
        for i in range(len(target)):
            target[i] += one * np.float32(first[i]) + two * np.float32(second[i])


@jit
def load(target: Floats, source: Any) -> None:
    """Copy as float32."""
    for i in range(len(target)):
        target[i] = np.float32(source[i])


@jit
def _row(plane: int, y: int, last: int, size: int, spare: int) -> Floats:
    return floats(plane, y * size, size) if y < last else floats(spare, 0, size)


@jit
def shrink(
    crop: Crop, room: Room, plane: int, first: int, last: int, across: Taps, down: Taps
) -> None:
    """Rows ``first`` to ``last`` of a plane where crops shrink: down the columns first."""
    size, lowest = len(across.place), crop.tall - 1
    for start in range(first, last, LINES):
        for y in range(start, min(start + LINES, last)):
            line = floats(room.lines, (y - start) * room.pitch, crop.wide)
            for tap in range(0, down.number, 2):
                one, two = down.weight[tap * size + y], down.weight[(tap + 1) * size + y]
                row = int(down.place[y]) + tap
                upper = crop.corner + min(row, lowest) * crop.row_step
                lower = crop.corner + min(row + 1, lowest) * crop.row_step
                if crop.is_float:
                    above, below = floats(upper, 0, crop.wide), floats(lower, 0, crop.wide)
                    _mix(line, above, below, one, two, tap == 0)
                else:
                    dark, bright = uint8s(upper, crop.wide), uint8s(lower, crop.wide)
                    _mix(line, dark, bright, one, two, tap == 0)
        _across(
            room.lines,
            room.pitch,
            _row(plane, start, last, size, room.spare),
            _row(plane, start + 1, last, size, room.spare),
            _row(plane, start + 2, last, size, room.spare),
            _row(plane, start + 3, last, size, room.spare),
            across,
        )


@jit
def enlarge(
    crop: Crop,
    room: Room,
    plane: int,
    ring: int,
    first: int,
    last: int,
    ready: int,
    across: Taps,
    down: Taps,
) -> int:
    """Likewise where they do not: along the rows first, into a ring of the last rows made.

    Takes and returns how many rows of the crop are made.
    """
    size, lowest, depth = len(across.place), crop.tall - 1, room.depth
    until = min(int(down.place[last - 1]) + down.number, crop.tall)
    while ready < until:
        for number in range(LINES):
            row = crop.corner + min(ready + number, lowest) * crop.row_step
            line = floats(room.lines, number * room.pitch, crop.wide)
            if crop.is_float:
                load(line, floats(row, 0, crop.wide))
            else:
                load(line, uint8s(row, crop.wide))
        _across(
            room.lines,
            room.pitch,
            floats(ring, ready % depth * size, size),
            floats(ring, (ready + 1) % depth * size, size),
            floats(ring, (ready + 2) % depth * size, size),
            floats(ring, (ready + 3) % depth * size, size),
            across,
        )
        ready += LINES
    for y in range(first, last):
        target = floats(plane, y * size, size)
        for tap in range(0, down.number, 2):
            row = int(down.place[y]) + tap
            above = floats(ring, min(row, lowest) % depth * size, size)
            below = floats(ring, min(row + 1, lowest) % depth * size, size)
            one, two = down.weight[tap * size + y], down.weight[(tap + 1) * size + y]
            _mix(target, above, below, one, two, tap == 0)
    return ready
