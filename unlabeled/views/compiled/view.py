"""Compiled: whole views, one sample after the other, in blocks of rows that stay in the cache.

A view is made in its place in the result. Its channels are planes of float32. Work goes by blocks
of whole rows, and over the planes once more only where it must: contrast needs the mean of all
that came before it, blur the rows around. A sample is made by one thread from itself alone: its
values depend neither on the batch nor on the threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from unlabeled.views.compiled.blur import blur_rows, gauss
from unlabeled.views.compiled.memory import Floats, Integers, Places, address_of, floats, jit
from unlabeled.views.compiled.pixels import (
    ONE,
    ZERO,
    gray,
    luma_sum,
    normalize,
    plain_sum,
    saturate,
    scale,
    solarize,
    turn_hue,
)
from unlabeled.views.compiled.resize import (
    LINES,
    Crop,
    Room,
    Taps,
    enlarge,
    fill_taps,
    shrink,
    tap_count,
)

RESIZE = -1
NONE, BRIGHTNESS, CONTRAST, SATURATION, HUE, GRAY, BLUR, SOLARIZE = range(8)
_BLOCK = 1024  # pixels of a plane that are worked on at once: 12 KiB of three channels


@jit
def _operate(
    view: int,
    channels: int,
    plane: int,
    start: int,
    count: int,
    codes: Any,
    values: Floats,
    position: int,
    following: int,
    threshold: Any,
) -> None:
    """Apply operations in which a pixel depends on itself alone to a block of all planes."""
    for turn in range(position, following):
        code, value = codes[turn], values[turn]
        if code in (BRIGHTNESS, SOLARIZE):
            for channel in range(channels):
                part = floats(view, channel * plane + start, count)
                if code == BRIGHTNESS:
                    scale(part, value, ZERO)
                else:
                    solarize(part, threshold)
        elif code != NONE:
            red = floats(view, start, count)
            green = floats(view, plane + start, count)
            blue = floats(view, 2 * plane + start, count)
            if code == SATURATION:
                saturate(red, green, blue, value)
            elif code == HUE:
                turn_hue(red, green, blue, value)
            elif code == GRAY:
                gray(red, green, blue)


@jit
def _light(view: int, channels: int, plane: int, start: int, count: int) -> float:
    """Sum of the luma of a block, or of the mean of other channels than three."""
    if channels == 3:
        return luma_sum(
            floats(view, start, count),
            floats(view, plane + start, count),
            floats(view, 2 * plane + start, count),
        )
    total = 0.0
    for channel in range(channels):
        total += plain_sum(floats(view, channel * plane + start, count)) / channels
    return total


@jit
def _rows(size: int) -> int:
    """Rows of a block."""
    return min(size, max(LINES, _BLOCK // size))


@jit
def _make_views(
    addresses: Integers,
    layouts: Integers,
    boxes: Integers,
    flips: Any,
    codes: Any,
    values: Floats,
    factors: Floats,
    shifts: Floats,
    result: Floats,
    reach: int,
    radius: int,
    threshold: Any,
    begin: int,
    end: int,
    places: Places,
    weights_x: Floats,
    weights_y: Floats,
    lines: Floats,
    pitch: int,
    ring: Floats,
    depth: int,
    padded: Floats,
    spare: Floats,
) -> None:
    """`make_views` with room to work in; `Room` says which."""
    channels, size, operations = result.shape[1], result.shape[2], codes.shape[1]
    plane, rows = size * size, _rows(size)
    room = Room(
        address_of(lines),
        pitch,
        address_of(ring),
        depth,
        address_of(padded),
        address_of(spare),
    )
    weights = np.empty(radius + 1, np.float32)  # of the blur
    zero, upright = np.int64(0), np.bool_(False)  # a literal would be compiled for by itself

    for sample in range(begin, end):
        view = address_of(result[sample])
        is_float = layouts[sample, 2] != 0
        row_step, tall, wide = layouts[sample, 1], boxes[sample, 2], boxes[sample, 3]
        corner = addresses[sample] + boxes[sample, 0] * row_step
        corner += boxes[sample, 1] * (4 if is_float else 1)
        count = fill_taps(places[0], weights_x, wide, reach, flips[sample], 1.0)
        across = Taps(places[0], weights_x, count)
        unit = 1.0 if is_float else 1 / 255
        count = fill_taps(places[1], weights_y, tall, reach, upright, unit)
        down = Taps(places[1], weights_y, count)
        for number in range(LINES):
            floats(room.lines, number * pitch + wide, across.number)[:] = ZERO

        source, factor, offset, blur, position = RESIZE, ONE, ZERO, zero, zero
        while True:  # passes over the planes
            following = position
            while following < operations and codes[sample, following] not in (CONTRAST, BLUR):
                following += 1
            total, done = 0.0, zero
            for first in range(0, size, rows):
                last = min(size, first + rows)
                start, count, ready = first * size, (last - first) * size, done
                for channel in range(channels):
                    at = view + 4 * channel * plane
                    if source == RESIZE:
                        crop = Crop(
                            corner + channel * layouts[sample, 0], row_step, tall, wide, is_float
                        )
                        if tall > size:
                            shrink(crop, room, at, first, last, across, down)
                        else:
                            own = room.ring + 4 * channel * depth * size
                            ready = enlarge(crop, room, at, own, first, last, done, across, down)
                        if reach == 2:  # the cubic overshoots
                            scale(floats(at, start, count), ONE, ZERO)
                    elif source == CONTRAST:
                        scale(floats(at, start, count), factor, offset)
                    elif blur > 0:
                        own = room.ring + 4 * channel * (2 * blur + 1) * size
                        ready = blur_rows(
                            at, first, last, size, own, done, room.padded, weights, blur
                        )
                done = ready
                _operate(
                    view,
                    channels,
                    plane,
                    start,
                    count,
                    codes[sample],
                    values[sample],
                    position,
                    following,
                    threshold,
                )
                if following == operations:
                    for channel in range(channels):
                        part = floats(view, channel * plane + start, count)
                        normalize(part, factors[channel], shifts[channel])
                elif codes[sample, following] == CONTRAST:
                    total += _light(view, channels, plane, start, count)
            if following == operations:
                break
            source = codes[sample, following]
            if source == CONTRAST:
                factor = values[sample, following]
                offset = np.float32((1 - factor) * total / plane)
            else:
                blur = gauss(weights, values[sample, following], radius)
            position = following + 1


@jit
def make_views(
    addresses: Integers,
    layouts: Integers,
    boxes: Integers,
    flips: Any,
    codes: Any,
    values: Floats,
    factors: Floats,
    shifts: Floats,
    result: Floats,
    reach: int,
    radius: int,
    threshold: Any,
    begin: int,
    end: int,
) -> None:
    """Make the views of samples ``begin`` to ``end`` in their places of the result.

    Args:
        addresses: [B] of the images' first values; those of a row lie side by side.
        layouts: [B, 3]: bytes to the next channel and to the next row, and whether values are
            float32 in 0 .. 1 rather than uint8.
        boxes: [B, 4] top, left, height, width.
        flips: [B] bool.
        codes: [B, K] int8, the operations in each sample's order.
        values: [B, K] float32, their factors, shifts and sigmas.
        factors: [C], by which values in 0 .. 1 are multiplied at the end.
        shifts: [C], what is added then.
        result: [B, C, S, S].
        reach: 1 for the triangle, 2 for the cubic.
        radius: the most taps a side of the blur.
        threshold: of solarize.
        begin: first sample.
        end: past the last sample.
    """
    channels, size = result.shape[1], result.shape[2]
    longest_y, longest_x = boxes[begin:end, 2].max(), boxes[begin:end, 3].max()
    most_x, most_y = tap_count(longest_x, size, reach), tap_count(longest_y, size, reach)
    # the rows of a block of an enlarged crop, the taps around, and what LINES makes too many
    depth, pitch = _rows(size) + 2 * reach + LINES + 1, longest_x + most_x
    # numba frees an array after the last mention of its name, so the addresses of these are taken
    # in a function that they are handed to: they live until it returns
    _make_views(
        addresses,
        layouts,
        boxes,
        flips,
        codes,
        values,
        factors,
        shifts,
        result,
        reach,
        radius,
        threshold,
        begin,
        end,
        np.empty((2, size), np.uint32),
        np.empty(most_x * size, np.float32),
        np.empty(most_y * size, np.float32),
        np.zeros(LINES * pitch, np.float32),
        pitch,
        np.zeros(max(depth, 2 * radius + 1) * channels * size, np.float32),
        depth,
        np.zeros(size + 2 * radius, np.float32),
        np.zeros(size, np.float32),
    )
