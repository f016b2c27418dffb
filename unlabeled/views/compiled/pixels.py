"""Compiled: operations on values of a plane, or of three, that lie side by side.

Loops without branches over contiguous float32, which LLVM turns into vector instructions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from unlabeled.views.compiled.memory import Floats, jit

ZERO, ONE, TWO, THREE, FOUR, SIX = (np.float32(value) for value in (0, 1, 2, 3, 4, 6))
_TINY = np.float32(1e-12)
_RED, _GREEN, _BLUE = np.float32(0.2989), np.float32(0.587), np.float32(0.114)


@jit
def _clip(value: Any) -> Any:
    return min(max(value, ZERO), ONE)


@jit
def scale(x: Floats, factor: Any, offset: Any) -> None:
    """clip(factor x + offset), in place."""
    for i in range(len(x)):
        x[i] = _clip(x[i] * factor + offset)


@jit
def luma_sum(red: Floats, green: Floats, blue: Floats) -> Any:
    """Sum of the luma."""
    total = ZERO
    for i in range(len(red)):
        total += _RED * red[i] + _GREEN * green[i] + _BLUE * blue[i]
    return total


@jit
def plain_sum(x: Floats) -> Any:
    """Sum."""
    total = ZERO
    for i in range(len(x)):
        total += x[i]
    return total


@jit
def saturate(red: Floats, green: Floats, blue: Floats, factor: Any) -> None:
    """As `unlabeled.views.ops.adjust_saturation`, in place."""
    rest = ONE - factor
    for i in range(len(red)):
        luma = rest * (_RED * red[i] + _GREEN * green[i] + _BLUE * blue[i])
        red[i] = _clip(factor * red[i] + luma)
        green[i] = _clip(factor * green[i] + luma)
        blue[i] = _clip(factor * blue[i] + luma)


@jit
def turn_hue(red: Floats, green: Floats, blue: Floats, shift: Any) -> None:
    """As `unlabeled.views.ops.adjust_hue`, in place."""
    sixths = shift * SIX
    for i in range(len(red)):
        r, g, b = red[i], green[i], blue[i]
        top = max(r, max(g, b))
        chroma = top - min(r, min(g, b))
        share = ONE / max(chroma, _TINY)
        is_red, is_green = r == top, g == top
        difference = (g - b) if is_red else ((b - r) if is_green else (r - g))
        hue = difference * share + (ZERO if is_red else (TWO if is_green else FOUR)) + sixths
        hue = hue + (SIX if hue < ZERO else ZERO)
        hue = hue - (SIX if hue >= SIX else ZERO)
        red[i] = top - chroma * _clip(TWO - abs(hue - THREE))
        green[i] = top - chroma * _clip(abs(hue - TWO) - ONE)
        blue[i] = top - chroma * _clip(abs(hue - FOUR) - ONE)


@jit
def gray(red: Floats, green: Floats, blue: Floats) -> None:
    """Write the luma into all three."""
    for i in range(len(red)):
        luma = _RED * red[i] + _GREEN * green[i] + _BLUE * blue[i]
        red[i] = green[i] = blue[i] = luma


@jit
def solarize(x: Floats, threshold: Any) -> None:
    """As `unlabeled.views.ops.solarize`, in place."""
    for i in range(len(x)):
        x[i] = (ONE - x[i]) if x[i] >= threshold else x[i]


@jit
def normalize(x: Floats, scale: Any, shift: Any) -> None:
    """Scale x + shift, in place."""
    for i in range(len(x)):
        x[i] = x[i] * scale + shift
