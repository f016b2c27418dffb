"""The fused view kernel's loops, compiled by numba: one sample after the other, in cached blocks.

A view is made in its place in the result. Its channels are planes of float32; work goes by blocks
of whole rows that stay in the first-level cache, and passes over the planes only where it must:
contrast needs the mean of all that came before it, blur the rows around. Inner loops run over
contiguous rows without branches, so that LLVM turns them into vector instructions. A sample is
made by one thread from itself alone: its values depend neither on the batch nor on the threads.

Everything compiled is in this one file: numba's cache on disk looks at no other for changes.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic

NONE, BRIGHTNESS, CONTRAST, SATURATION, HUE, GRAY, BLUR, SOLARIZE = range(8)
HEIGHT, WIDTH, CHANNEL_STEP, ROW_STEP, COLUMN_STEP, IS_FLOAT = range(6)

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.uint32]
Integers = npt.NDArray[np.int64]

_ZERO, _ONE, _TWO, _THREE, _FOUR, _SIX = (np.float32(value) for value in (0, 1, 2, 3, 4, 6))
_TINY, _BYTE = np.float32(1e-12), np.float32(1 / 255)
_RED, _GREEN, _BLUE = np.float32(0.2989), np.float32(0.587), np.float32(0.114)
_BLOCK = 1024  # pixels of a plane: with three channels and the margins 16 KiB
_CUT = 4.3  # standard deviations: the taps of a Gaussian beyond weigh 2e-5 together

jit = numba.njit(fastmath=True, error_model="numpy", boundscheck=False, nogil=True)


@intrinsic
def _bytes_at(context: Any, address: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.uint8)(types.int64), build


@intrinsic
def _floats_at(context: Any, address: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.int64), build


# Resize -------------------------------------------------------------------------------------------


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
def tap_count(length: float, size: int, reach: int) -> int:
    """How many pixels a pixel of the result is made of at most: even, for loops over pairs."""
    count = math.ceil(2 * reach * max(1.0, length / size))
    return count + count % 2


@jit
def _taps(
    place: Places, weight: Floats, length: int, reach: int, flip: bool, unit: float
) -> int:
    """First pixel and weights [taps, size] of each pixel of the result; weights sum to unit."""
    size = len(place)
    step = length / size
    stretch = max(1.0, step)
    support = stretch * reach
    count = tap_count(length, size, reach)
    for output in range(size):
        center = ((size - output - 0.5) if flip else (output + 0.5)) * step
        first = max(int(math.floor(center - support + 0.5)), 0)
        last = min(int(math.floor(center + support + 0.5)), length)
        total = 0.0
        for tap in range(last - first):
            total += _filter((first + tap + 0.5 - center) / stretch, reach)
        place[output] = first
        for tap in range(count):
            value = 0.0
            if tap < last - first:
                value = _filter((first + tap + 0.5 - center) / stretch, reach) * (unit / total)
            weight[tap * size + output] = np.float32(value)
    return count


@jit
def _across(target: Floats, row: Floats, place: Places, weight: Floats, count: int) -> None:
    """Filter a row of the source: target[o] = sum_t weight[t, o] row[place[o] + t]."""
    size = len(target)
    for tap in range(0, count, 2):
        first, second = row[tap:], row[tap + 1 :]
        left, right = weight[tap * size : (tap + 1) * size], weight[(tap + 1) * size :]
        if tap == 0:
            for o in range(size):
                target[o] = left[o] * first[place[o]] + right[o] * second[place[o]]
        else:
            for o in range(size):
                target[o] += left[o] * first[place[o]] + right[o] * second[place[o]]


@jit
def _mix(target: Floats, first: Any, second: Any, left: Any, right: Any, fresh: bool) -> None:
    """Target = left first + right second, or that added to it."""
    if fresh:
        for i in range(len(target)):
            target[i] = left * np.float32(first[i]) + right * np.float32(second[i])
    else:
        for i in range(len(target)):
            target[i] += left * np.float32(first[i]) + right * np.float32(second[i])


@jit
def _load(row: Floats, address: int, step: int, is_float: bool) -> None:
    """Copy pixels that lie ``step`` values apart, as float32."""
    count = len(row)
    if is_float:
        floats = numba.carray(_floats_at(address), (count * step,))
        if step == 1:
            for i in range(count):
                row[i] = floats[i]
        else:
            for i in range(count):
                row[i] = floats[i * step]
    else:
        values = numba.carray(_bytes_at(address), (count * step,))
        if step == 1:
            for i in range(count):
                row[i] = np.float32(values[i])
        else:
            for i in range(count):
                row[i] = np.float32(values[i * step])


# Pixels -------------------------------------------------------------------------------------------


@jit
def _clip(value: Any) -> Any:
    return min(max(value, _ZERO), _ONE)


@jit
def _scale(x: Floats, factor: Any, offset: Any) -> None:
    for i in range(len(x)):
        x[i] = _clip(x[i] * factor + offset)


@jit
def _luma_sum(red: Floats, green: Floats, blue: Floats) -> Any:
    total = _ZERO
    for i in range(len(red)):
        total += _RED * red[i] + _GREEN * green[i] + _BLUE * blue[i]
    return total


@jit
def _plain_sum(x: Floats) -> Any:
    total = _ZERO
    for i in range(len(x)):
        total += x[i]
    return total


@jit
def _saturate(red: Floats, green: Floats, blue: Floats, factor: Any) -> None:
    rest = _ONE - factor
    for i in range(len(red)):
        luma = rest * (_RED * red[i] + _GREEN * green[i] + _BLUE * blue[i])
        red[i] = _clip(factor * red[i] + luma)
        green[i] = _clip(factor * green[i] + luma)
        blue[i] = _clip(factor * blue[i] + luma)


@jit
def _turn_hue(red: Floats, green: Floats, blue: Floats, shift: Any) -> None:
    """As `unlabeled.views.ops.adjust_hue`."""
    sixths = shift * _SIX
    for i in range(len(red)):
        r, g, b = red[i], green[i], blue[i]
        top = max(r, max(g, b))
        chroma = top - min(r, min(g, b))
        share = _ONE / max(chroma, _TINY)
        is_red, is_green = r == top, g == top
        difference = (g - b) if is_red else ((b - r) if is_green else (r - g))
        hue = difference * share + (_ZERO if is_red else (_TWO if is_green else _FOUR)) + sixths
        hue = hue + (_SIX if hue < _ZERO else _ZERO)
        hue = hue - (_SIX if hue >= _SIX else _ZERO)
        red[i] = top - chroma * _clip(_TWO - abs(hue - _THREE))
        green[i] = top - chroma * _clip(abs(hue - _TWO) - _ONE)
        blue[i] = top - chroma * _clip(abs(hue - _FOUR) - _ONE)


@jit
def _gray(red: Floats, green: Floats, blue: Floats) -> None:
    for i in range(len(red)):
        red[i] = _RED * red[i] + _GREEN * green[i] + _BLUE * blue[i]


@jit
def _copy(target: Floats, source: Floats) -> None:
    for i in range(len(target)):
        target[i] = source[i]


@jit
def _solarize(x: Floats, threshold: Any) -> None:
    for i in range(len(x)):
        x[i] = (_ONE - x[i]) if x[i] >= threshold else x[i]


@jit
def _normalize(target: Floats, source: Floats, scale: Any, shift: Any) -> None:
    for i in range(len(target)):
        target[i] = source[i] * scale + shift


# Blur ---------------------------------------------------------------------------------------------


@jit
def _gauss(weight: Floats, sigma: float, radius: int) -> int:
    """Weights of the taps 0 .. the returned radius, at most ``radius``; beyond them is nothing."""
    radius = min(radius, int(_CUT * sigma))
    total = 1.0
    for tap in range(1, radius + 1):
        total += 2 * math.exp(-0.5 * (tap / sigma) ** 2)
    for tap in range(radius + 1):
        weight[tap] = np.float32(math.exp(-0.5 * (tap / sigma) ** 2) / total)
    return radius


@jit
def _center(target: Floats, middle: Floats, left: Floats, right: Floats, w0: Any, w1: Any) -> None:
    for i in range(len(target)):
        target[i] = w0 * middle[i] + w1 * (left[i] + right[i])


@jit
def _one_pair(target: Floats, left: Floats, right: Floats, weight: Any) -> None:
    for i in range(len(target)):
        target[i] += weight * (left[i] + right[i])


@jit
def _two_pairs(
    target: Floats, a: Floats, b: Floats, c: Floats, d: Floats, near: Any, far: Any
) -> None:
    for i in range(len(target)):
        target[i] += near * (a[i] + b[i]) + far * (c[i] + d[i])


@jit
def _blur_across(target: Floats, source: Floats, padded: Floats, weight: Floats, radius: int) -> None:
    size = len(source)
    for i in range(radius):
        padded[i] = source[radius - i]
        padded[radius + size + i] = source[size - 2 - i]
    _copy(padded[radius : radius + size], source)
    _center(
        target, padded[radius:], padded[radius - 1 :], padded[radius + 1 :], weight[0], weight[1]
    )
    tap = 2
    while tap < radius:
        _two_pairs(
            target,
            padded[radius - tap :],
            padded[radius + tap :],
            padded[radius - tap - 1 :],
            padded[radius + tap + 1 :],
            weight[tap],
            weight[tap + 1],
        )
        tap += 2
    if tap == radius:
        _one_pair(target, padded[0:], padded[2 * radius :], weight[tap])


@jit
def _ring_row(ring: Floats, row: int, size: int, depth: int) -> Floats:
    row = abs(row)
    row = min(row, 2 * (size - 1) - row)
    start = (row % depth) * size
    return ring[start : start + size]


@jit
def _blur_down(target: Floats, ring: Floats, row: int, weight: Floats, radius: int) -> None:
    size, depth = len(target), 2 * radius + 1
    _center(
        target,
        _ring_row(ring, row, size, depth),
        _ring_row(ring, row - 1, size, depth),
        _ring_row(ring, row + 1, size, depth),
        weight[0],
        weight[1],
    )
    tap = 2
    while tap < radius:
        _two_pairs(
            target,
            _ring_row(ring, row - tap, size, depth),
            _ring_row(ring, row + tap, size, depth),
            _ring_row(ring, row - tap - 1, size, depth),
            _ring_row(ring, row + tap + 1, size, depth),
            weight[tap],
            weight[tap + 1],
        )
        tap += 2
    if tap == radius:
        _one_pair(
            target,
            _ring_row(ring, row - tap, size, depth),
            _ring_row(ring, row + tap, size, depth),
            weight[tap],
        )


# The whole view -----------------------------------------------------------------------------------


@jit
def _pointwise(
    view: Floats,
    channels: int,
    start: int,
    stop: int,
    codes: Any,
    values: Floats,
    threshold: Any,
) -> None:
    """Apply operations in which a pixel depends on itself alone to a block of all planes."""
    plane = len(view) // channels
    for turn in range(len(codes)):
        code, value = codes[turn], values[turn]
        if code == BRIGHTNESS or code == SOLARIZE:
            for channel in range(channels):
                part = view[channel * plane + start : channel * plane + stop]
                if code == BRIGHTNESS:
                    _scale(part, value, _ZERO)
                else:
                    _solarize(part, threshold)
        elif code != NONE:
            red = view[start:stop]
            green = view[plane + start : plane + stop]
            blue = view[2 * plane + start : 2 * plane + stop]
            if code == SATURATION:
                _saturate(red, green, blue, value)
            elif code == HUE:
                _turn_hue(red, green, blue, value)
            elif code == GRAY:
                _gray(red, green, blue)
                _copy(green, red)
                _copy(blue, red)


@numba.njit(fastmath=True, error_model="numpy", boundscheck=False, nogil=True, cache=True)
def views(
    addresses: Integers,
    layouts: Integers,
    boxes: Integers,
    flips: Any,
    codes: Any,
    values: Floats,
    scale: Floats,
    shift: Floats,
    result: Floats,
    reach: int,
    radius: int,
    threshold: Any,
    begin: int,
    end: int,
) -> None:
    """Make the views of samples ``begin`` to ``end`` in their places of the result.

    Args:
        addresses: [B] of the images' first values.
        layouts: [B, 6]: height, width, steps in values to the next channel, row and column,
            whether float32 rather than uint8.
        boxes: [B, 4] top, left, height, width.
        flips: [B] bool.
        codes: [B, K] int8, the operations in each sample's order.
        values: [B, K] float32, their factors, shifts and sigmas.
        scale: [C], by which values in 0 .. 1 are multiplied at the end.
        shift: [C], what is added then.
        result: [B, C, S, S].
        reach: 1 for the triangle, 2 for the cubic.
        radius: the most taps a side of the blur.
        threshold: of solarize.
        begin: first sample.
        end: past the last sample.
    """
    channels, size = result.shape[1], result.shape[2]
    plane = size * size
    rows = max(1, _BLOCK // size)
    longest_x, longest_y = 1, 1
    for sample in range(begin, end):
        longest_y, longest_x = max(longest_y, boxes[sample, 2]), max(longest_x, boxes[sample, 3])
    count_x, count_y = tap_count(longest_x, size, reach), tap_count(longest_y, size, reach)
    place_x, place_y = np.empty(size, np.uint32), np.empty(size, np.uint32)
    weight_x, weight_y = np.empty(count_x * size, np.float32), np.empty(count_y * size, np.float32)
    line = np.empty(longest_x + count_x, np.float32)
    padded = np.empty(size + 2 * radius, np.float32)
    gauss = np.empty(radius + 2, np.float32)
    ring = np.empty(max(min(count_y, size + 8), 2 * radius + 1) * channels * size, np.float32)

    for sample in range(begin, end):
        view = result[sample].reshape(channels * plane)
        top, left = boxes[sample, 0], boxes[sample, 1]
        tall, wide = boxes[sample, 2], boxes[sample, 3]
        is_float = layouts[sample, IS_FLOAT] != 0
        width = 4 if is_float else 1
        row_step = layouts[sample, ROW_STEP] * width
        column_step = layouts[sample, COLUMN_STEP]
        channel_step = layouts[sample, CHANNEL_STEP] * width
        corner = addresses[sample] + top * row_step + left * column_step * width
        taps_x = _taps(place_x, weight_x, wide, reach, flips[sample], 1.0)
        taps_y = _taps(place_y, weight_y, tall, reach, False, 1.0 if is_float else 1 / 255)
        line[wide : wide + taps_x] = _ZERO
        down_first = tall > size and column_step == 1
        done = 0

        order, numbers = codes[sample], values[sample]
        source, factor, offset, blur = NONE, _ONE, _ZERO, 0
        position, gray = 0, False
        while True:
            following = position
            while following < len(order) and order[following] not in (CONTRAST, BLUR):
                following += 1
            total = 0.0
            ready = 0
            for first in range(0, size, rows):
                last = min(size, first + rows)
                start, stop = first * size, last * size
                # 1. what the block is made of
                if source == NONE and down_first:
                    for channel in range(channels):
                        base = corner + channel * channel_step
                        for y in range(first, last):
                            for tap in range(0, taps_y, 2):
                                upper = min(int(place_y[y]) + tap, tall - 1)
                                lower = min(int(place_y[y]) + tap + 1, tall - 1)
                                high, low = base + upper * row_step, base + lower * row_step
                                one = weight_y[tap * size + y]
                                two = weight_y[(tap + 1) * size + y]
                                if is_float:
                                    _mix(
                                        line[:wide],
                                        numba.carray(_floats_at(high), (wide,)),
                                        numba.carray(_floats_at(low), (wide,)),
                                        one,
                                        two,
                                        tap == 0,
                                    )
                                else:
                                    _mix(
                                        line[:wide],
                                        numba.carray(_bytes_at(high), (wide,)),
                                        numba.carray(_bytes_at(low), (wide,)),
                                        one,
                                        two,
                                        tap == 0,
                                    )
                            at = channel * plane + y * size
                            _across(view[at : at + size], line, place_x, weight_x, taps_x)
                elif source == NONE:
                    until = min(int(place_y[last - 1]) + taps_y, tall)
                    for channel in range(channels):
                        base = corner + channel * channel_step
                        loops = ring[channel * taps_y * size : (channel + 1) * taps_y * size]
                        ready = done
                        for y in range(first, last):
                            until = min(int(place_y[y]) + taps_y, tall)
                            while ready < until:
                                _load(line[:wide], base + ready * row_step, column_step, is_float)
                                at = (ready % taps_y) * size
                                _across(loops[at : at + size], line, place_x, weight_x, taps_x)
                                ready += 1
                            at = channel * plane + y * size
                            for tap in range(0, taps_y, 2):
                                upper = min(int(place_y[y]) + tap, tall - 1) % taps_y
                                lower = min(int(place_y[y]) + tap + 1, tall - 1) % taps_y
                                _mix(
                                    view[at : at + size],
                                    loops[upper * size : (upper + 1) * size],
                                    loops[lower * size : (lower + 1) * size],
                                    weight_y[tap * size + y],
                                    weight_y[(tap + 1) * size + y],
                                    tap == 0,
                                )
                    done = ready
                elif source == CONTRAST:
                    for channel in range(channels):
                        _scale(view[channel * plane + start : channel * plane + stop], factor, offset)
                elif blur > 0:
                    depth = 2 * blur + 1
                    for channel in range(1 if gray else channels):
                        loops = ring[channel * depth * size : (channel + 1) * depth * size]
                        ready = done
                        for y in range(first, last):
                            while ready <= min(y + blur, size - 1):
                                at, slot = channel * plane + ready * size, (ready % depth) * size
                                _blur_across(
                                    loops[slot : slot + size],
                                    view[at : at + size],
                                    padded,
                                    gauss,
                                    blur,
                                )
                                ready += 1
                            at = channel * plane + y * size
                            _blur_down(view[at : at + size], loops, y, gauss, blur)
                    done = ready
                # 2. clip the cubic's overshoot, then the pixels' own operations
                if source == NONE and reach == 2:
                    for channel in range(channels):
                        _scale(view[channel * plane + start : channel * plane + stop], _ONE, _ZERO)
                _pointwise(
                    view,
                    channels,
                    start,
                    stop,
                    order[position:following],
                    numbers[position:following],
                    threshold,
                )
                # 3. what comes after
                if following == len(order):
                    for channel in range(channels):
                        part = view[channel * plane + start : channel * plane + stop]
                        _normalize(part, part, scale[channel], shift[channel])
                elif order[following] == CONTRAST:
                    if channels == 3:
                        total += _luma_sum(
                            view[start:stop],
                            view[plane + start : plane + stop],
                            view[2 * plane + start : 2 * plane + stop],
                        )
                    else:
                        for channel in range(channels):
                            at = channel * plane
                            total += _plain_sum(view[at + start : at + stop]) / channels
            if following == len(order):
                break
            source, done = order[following], 0
            if source == CONTRAST:
                factor = numbers[following]
                offset = np.float32((1 - factor) * total / plane)
            else:
                blur = _gauss(gauss, numbers[following], radius)
            position = following + 1
