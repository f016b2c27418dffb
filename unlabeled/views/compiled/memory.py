"""Memory and settings of the compiled code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray, types  # type: ignore[attr-defined]
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


def _pointer_to(value: Any) -> Callable[[int], Any]:
    """A function of compiled code that takes an address for a pointer to such values."""

    def typed(context: Any, address: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(value)(types.int64), build

    return intrinsic(typed)  # type: ignore[return-value]


_floats_at, _uint8s_at = _pointer_to(types.float32), _pointer_to(types.uint8)


@jit
def address_of(array: Any) -> int:
    """Where an array's first value lies.

    The array must outlive the address's use, and numba frees one that it made after the last
    mention of its name: take addresses of parameters only.
    """
    return np.int64(array.ctypes.data)  # type: ignore[return-value]


@jit
def floats(address: int, start: int, count: int) -> Floats:
    """Values ``start`` to ``start + count`` of the float32 at an address.

    By address, because slices of arrays count references, which costs more than a row of pixels.
    """
    return carray(_floats_at(address + 4 * start), (count,))


@jit
def uint8s(address: int, count: int) -> Bytes:
    """The first values at an address."""
    return carray(_uint8s_at(address), (count,))
