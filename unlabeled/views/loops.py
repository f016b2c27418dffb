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
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic, register_jitable

RESIZE = -1
NONE, BRIGHTNESS, CONTRAST, SATURATION, HUE, GRAY, BLUR, SOLARIZE = range(8)

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.uint32]
Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

_ZERO, _ONE, _TWO, _THREE, _FOUR, _SIX = (np.float32(value) for value in (0, 1, 2, 3, 4, 6))
_TINY, _BYTE = np.float32(1e-12), np.float32(1 / 255)
_RED, _GREEN, _BLUE = np.float32(0.2989), np.float32(0.587), np.float32(0.114)
_BLOCK = 1024  # pixels of a plane that are worked on at once: 12 KiB of three channels
_LINES = 4  # rows that are filtered together
_CUT = 4.3  # standard deviations: the taps of a Gaussian beyond weigh 2e-5 together

OPTIONS: dict[str, Any] = {
    "fastmath": True,
    "error_model": "numpy",
    "boundscheck": False,
    "nogil": True,
}
jit = register_jitable(**OPTIONS)


# Memory: arrays by address, because slices of arrays count references, which costs more than a row


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


@jit
def _floats(address: int, start: int, count: int) -> Floats:
    """Values ``start`` to ``start + count`` of the float32 at an address."""
    return numba.carray(_floats_at(address + 4 * start), (count,))


@jit
def _bytes(address: int, count: int) -> Bytes:
    return numba.carray(_bytes_at(address), (count,))


# Resize -------------------------------------------------------------------------------------------


class Crop(NamedTuple):
    """Where a crop lies in memory."""

    corner: int  # address of its first value
    channel_step: int  # bytes
    row_step: int  # bytes
    tall: int
    wide: int
    is_float: bool


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
def _tap_count(length: int, size: int, reach: int) -> int:
    """How many pixels a pixel of the result is made of at most: even, for loops over pairs."""
    count = int(math.ceil(2 * reach * max(1.0, length / size)))
    return count + count % 2


@jit
def _taps(place: Places, weight: Floats, length: int, reach: int, flip: bool, unit: float) -> int:
    """First pixel and weights [taps, size] of each pixel of the result; weights sum to unit."""
    size = len(place)
    step = length / size
    stretch = max(1.0, step)
    support = stretch * reach
    count = _tap_count(length, size, reach)
    for output in range(size):
        center = ((size - output - 0.5) if flip else (output + 0.5)) * step
        first = max(int(math.floor(center - support + 0.5)), 0)
        taps = min(int(math.floor(center + support + 0.5)), length) - first
        total = 0.0
        for tap in range(taps):
            total += _filter((first + tap + 0.5 - center) / stretch, reach)
        place[output] = first
        for tap in range(count):
            value = _filter((first + tap + 0.5 - center) / stretch, reach) * (unit / total)
            weight[tap * size + output] = np.float32(value if tap < taps else 0.0)
    return count


@jit
def _across(
    lines: int,
    pitch: int,
    a: Floats,
    b: Floats,
    c: Floats,
    d: Floats,
    place: Places,
    weight: Floats,
    count: int,
) -> None:
    """Filter four rows of the source: target[o] = sum_t weight[t, o] line[place[o] + t]."""
    size = len(place)
    for tap in range(0, count, 2):
        line_a = _floats(lines, tap, pitch)
        line_b = _floats(lines, tap + pitch, pitch)
        line_c = _floats(lines, tap + 2 * pitch, pitch)
        line_d = _floats(lines, tap + 3 * pitch, pitch)
        left, right = weight[tap * size :], weight[(tap + 1) * size :]
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
def _load(target: Floats, source: Any) -> None:
    for i in range(len(target)):
        target[i] = np.float32(source[i])


@jit
def _shrink(
    crop: Crop,
    plane: int,
    base: int,
    first: int,
    last: int,
    lines: int,
    pitch: int,
    spare: int,
    place_x: Places,
    weight_x: Floats,
    taps_x: int,
    place_y: Places,
    weight_y: Floats,
    taps_y: int,
) -> None:
    """Rows ``first`` to ``last`` of a plane, where crops shrink: down the columns first."""
    size = len(place_x)
    for start in range(first, last, _LINES):
        for y in range(start, min(start + _LINES, last)):
            line = _floats(lines, (y - start) * pitch, crop.wide)
            for tap in range(0, taps_y, 2):
                one, two = weight_y[tap * size + y], weight_y[(tap + 1) * size + y]
                row = int(place_y[y]) + tap
                upper = base + min(row, crop.tall - 1) * crop.row_step
                lower = base + min(row + 1, crop.tall - 1) * crop.row_step
                if crop.is_float:
                    above, below = _floats(upper, 0, crop.wide), _floats(lower, 0, crop.wide)
                    _mix(line, above, below, one, two, tap == 0)
                else:
                    _mix(
                        line, _bytes(upper, crop.wide), _bytes(lower, crop.wide), one, two, tap == 0
                    )
        _across(
            lines,
            pitch,
            _floats(plane, start * size, size),
            _floats(
                plane if start + 1 < last else spare,
                (start + 1) * size if start + 1 < last else 0,
                size,
            ),
            _floats(
                plane if start + 2 < last else spare,
                (start + 2) * size if start + 2 < last else 0,
                size,
            ),
            _floats(
                plane if start + 3 < last else spare,
                (start + 3) * size if start + 3 < last else 0,
                size,
            ),
            place_x,
            weight_x,
            taps_x,
        )


@jit
def _enlarge(
    crop: Crop,
    plane: int,
    base: int,
    first: int,
    last: int,
    lines: int,
    pitch: int,
    ring: int,
    depth: int,
    ready: int,
    place_x: Places,
    weight_x: Floats,
    taps_x: int,
    place_y: Places,
    weight_y: Floats,
    taps_y: int,
) -> int:
    """Likewise where crops grow: along the rows first, into a ring of ``depth`` rows."""
    size = len(place_x)
    until = min(int(place_y[last - 1]) + taps_y, crop.tall)
    while ready < until:
        for number in range(_LINES):
            row = base + min(ready + number, crop.tall - 1) * crop.row_step
            line = _floats(lines, number * pitch, crop.wide)
            if crop.is_float:
                _load(line, _floats(row, 0, crop.wide))
            else:
                _load(line, _bytes(row, crop.wide))
        _across(
            lines,
            pitch,
            _floats(ring, ready % depth * size, size),
            _floats(ring, (ready + 1) % depth * size, size),
            _floats(ring, (ready + 2) % depth * size, size),
            _floats(ring, (ready + 3) % depth * size, size),
            place_x,
            weight_x,
            taps_x,
        )
        ready += _LINES
    for y in range(first, last):
        target = _floats(plane, y * size, size)
        for tap in range(0, taps_y, 2):
            row = int(place_y[y]) + tap
            above = _floats(ring, min(row, crop.tall - 1) % depth * size, size)
            below = _floats(ring, min(row + 1, crop.tall - 1) % depth * size, size)
            one, two = weight_y[tap * size + y], weight_y[(tap + 1) * size + y]
            _mix(target, above, below, one, two, tap == 0)
    return ready


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
        luma = _RED * red[i] + _GREEN * green[i] + _BLUE * blue[i]
        red[i] = green[i] = blue[i] = luma


@jit
def _solarize(x: Floats, threshold: Any) -> None:
    for i in range(len(x)):
        x[i] = (_ONE - x[i]) if x[i] >= threshold else x[i]


@jit
def _normalize(x: Floats, scale: Any, shift: Any) -> None:
    for i in range(len(x)):
        x[i] = x[i] * scale + shift


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
    margins = _floats(padded, 0, size + 2 * radius)
    for i in range(radius):
        margins[i] = source[radius - i]
        margins[radius + size + i] = source[size - 2 - i]
    _load(_floats(padded, radius, size), source)
    middle = _floats(padded, radius, size)
    left, right = _floats(padded, radius - 1, size), _floats(padded, radius + 1, size)
    if radius % 2:
        _middle_and_pair(target, middle, left, right, weight[0], weight[1])
    else:
        _middle_and_pairs(
            target,
            middle,
            left,
            right,
            _floats(padded, radius - 2, size),
            _floats(padded, radius + 2, size),
            weight[0],
            weight[1],
            weight[2],
        )
    for tap in range(3 - radius % 2, radius, 2):
        _two_pairs(
            target,
            _floats(padded, radius - tap, size),
            _floats(padded, radius + tap, size),
            _floats(padded, radius - tap - 1, size),
            _floats(padded, radius + tap + 1, size),
            weight[tap],
            weight[tap + 1],
        )


@jit
def _ring_row(ring: int, row: int, size: int, depth: int) -> Floats:
    row = abs(row)  # mirrored at the first row
    row = min(row, 2 * (size - 1) - row)  # and at the last
    return _floats(ring, row % depth * size, size)


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
def _blur_rows(
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
            target = _floats(ring, ready % depth * size, size)
            _blur_across(target, _floats(plane, ready * size, size), padded, weight, radius)
            ready += 1
        _blur_down(_floats(plane, y * size, size), ring, y, weight, radius)
    return ready


# The whole view -----------------------------------------------------------------------------------


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
        if code == BRIGHTNESS or code == SOLARIZE:
            for channel in range(channels):
                part = _floats(view, channel * plane + start, count)
                if code == BRIGHTNESS:
                    _scale(part, value, _ZERO)
                else:
                    _solarize(part, threshold)
        elif code != NONE:
            red = _floats(view, start, count)
            green = _floats(view, plane + start, count)
            blue = _floats(view, 2 * plane + start, count)
            if code == SATURATION:
                _saturate(red, green, blue, value)
            elif code == HUE:
                _turn_hue(red, green, blue, value)
            elif code == GRAY:
                _gray(red, green, blue)


@jit
def _light(view: int, channels: int, plane: int, start: int, count: int) -> float:
    """Sum of the luma of a block, or of the mean of other channels than three."""
    if channels == 3:
        return _luma_sum(
            _floats(view, start, count),
            _floats(view, plane + start, count),
            _floats(view, 2 * plane + start, count),
        )
    total = 0.0
    for channel in range(channels):
        total += _plain_sum(_floats(view, channel * plane + start, count)) / channels
    return total


def compiled(*, cache: bool) -> Callable[..., None]:
    """Return `views` as machine code, read from disk or compiled now (about ten seconds)."""
    whole, real = types.int64, types.float32
    signature = types.void(
        whole[::1],
        whole[:, ::1],
        whole[:, ::1],
        types.boolean[::1],
        types.int8[:, ::1],
        real[:, ::1],
        real[::1],
        real[::1],
        real[:, :, :, ::1],
        whole,
        whole,
        real,
        whole,
        whole,
    )
    return numba.njit(signature, cache=cache, **OPTIONS)(views)


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
        addresses: [B] of the images' first values; those of a row lie side by side.
        layouts: [B, 3]: bytes to the next channel and to the next row, and whether values are
            float32 in 0 .. 1 rather than uint8.
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
    channels, size, operations = result.shape[1], result.shape[2], codes.shape[1]
    plane = size * size
    rows = min(size, max(_LINES, _BLOCK // size))
    longest_y, longest_x = boxes[begin:end, 2].max(), boxes[begin:end, 3].max()
    most_x = _tap_count(longest_x, size, reach)
    weights_x = np.empty(most_x * size, np.float32)
    weights_y = np.empty(_tap_count(longest_y, size, reach) * size, np.float32)
    places_x, places_y = np.empty(size, np.uint32), np.empty(size, np.uint32)
    pitch = longest_x + most_x
    depth = rows + 2 * reach + _LINES + 1
    lines_, padded_ = np.zeros(_LINES * pitch, np.float32), np.zeros(size + 2 * radius, np.float32)
    ring_ = np.zeros(max(depth, 2 * radius + 1) * channels * size, np.float32)
    spare_, gauss = np.zeros(size, np.float32), np.zeros(radius + 1, np.float32)
    lines, padded = np.int64(lines_.ctypes.data), np.int64(padded_.ctypes.data)
    ring, spare = np.int64(ring_.ctypes.data), np.int64(spare_.ctypes.data)
    zero, upright = np.int64(0), np.bool_(False)  # a literal would be compiled for by itself

    for sample in range(begin, end):
        view = np.int64(result[sample].ctypes.data)
        is_float = layouts[sample, 2] != 0
        row_step, top, left = layouts[sample, 1], boxes[sample, 0], boxes[sample, 1]
        corner = addresses[sample] + top * row_step + left * (4 if is_float else 1)
        tall, wide = boxes[sample, 2], boxes[sample, 3]
        crop = Crop(corner, layouts[sample, 0], row_step, tall, wide, is_float)
        taps_x = _taps(places_x, weights_x, wide, reach, flips[sample], 1.0)
        taps_y = _taps(places_y, weights_y, tall, reach, upright, 1.0 if is_float else 1 / 255)
        for number in range(_LINES):
            _floats(lines, number * pitch + wide, taps_x)[:] = _ZERO

        source, factor, offset, blur, position = RESIZE, _ONE, _ZERO, zero, zero
        while True:  # passes over the planes
            following = position
            while following < operations and codes[sample, following] not in (CONTRAST, BLUR):
                following += 1
            total, done = 0.0, zero
            for first in range(0, size, rows):
                last = min(size, first + rows)
                start, count = first * size, (last - first) * size
                ready = done
                for channel in range(channels):
                    at = view + 4 * channel * plane
                    base = crop.corner + channel * crop.channel_step
                    own = ring + 4 * channel * depth * size
                    if source == RESIZE and tall > size:
                        _shrink(
                            crop,
                            at,
                            base,
                            first,
                            last,
                            lines,
                            pitch,
                            spare,
                            places_x,
                            weights_x,
                            taps_x,
                            places_y,
                            weights_y,
                            taps_y,
                        )
                    elif source == RESIZE:
                        ready = _enlarge(
                            crop,
                            at,
                            base,
                            first,
                            last,
                            lines,
                            pitch,
                            own,
                            depth,
                            done,
                            places_x,
                            weights_x,
                            taps_x,
                            places_y,
                            weights_y,
                            taps_y,
                        )
                    elif source == CONTRAST:
                        _scale(_floats(at, start, count), factor, offset)
                    elif blur > 0:
                        own = ring + 4 * channel * (2 * blur + 1) * size
                        ready = _blur_rows(at, first, last, size, own, done, padded, gauss, blur)
                    if source == RESIZE and reach == 2:  # the cubic overshoots
                        _scale(_floats(at, start, count), _ONE, _ZERO)
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
                        part = _floats(view, channel * plane + start, count)
                        _normalize(part, scale[channel], shift[channel])
                elif codes[sample, following] == CONTRAST:
                    total += _light(view, channels, plane, start, count)
            if following == operations:
                break
            source = codes[sample, following]
            if source == CONTRAST:
                factor = values[sample, following]
                offset = np.float32((1 - factor) * total / plane)
            else:
                blur = _gauss(gauss, values[sample, following], radius)
            position = following + 1
