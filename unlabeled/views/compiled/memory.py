"""Memory and settings of the compiled code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic, register_jitable

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.uint32]
Integers = npt.NDArray[np.int64]

OPTIONS: dict[str, Any] = {
    "fastmath": True,
    "error_model": "numpy",
    "boundscheck": False,
    "nogil": True,
}
jit: Callable[..., Any] = register_jitable(**OPTIONS)
"""Marks a function for compiling into those that call it."""


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
def floats(address: int, start: int, count: int) -> Floats:
    """Values ``start`` to ``start + count`` of the float32 at an address.

    By address, because slices of arrays count references, which costs more than a row of pixels.
    """
    return numba.carray(_floats_at(address + 4 * start), (count,))


@jit
def uint8s(address: int, count: int) -> Bytes:
    """The first values at an address."""
    return numba.carray(_bytes_at(address), (count,))
