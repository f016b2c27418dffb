"""The fused view kernel in numba: what `unlabeled.views.kernel` calls. Importing it is slow."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba import types

from unlabeled.views.compiled.memory import OPTIONS
from unlabeled.views.compiled.view import make_views


def compiled(*, cache: bool) -> Callable[..., None]:
    """Return `make_views` as machine code, read from disk or compiled now (ten seconds).

    Raises:
        RuntimeError: it is to be cached, and numba finds no folder that it can write to.
    """
    revision = _revision()

    def views(  # type: ignore[no-untyped-def]
        addresses, layouts, boxes, flips, codes, values, factors, shifts, result,
        reach, radius, threshold, begin, end,
    ):  # fmt: skip
        _ = revision  # numba's cache goes by this file and by what the function encloses
        make_views(
            addresses, layouts, boxes, flips, codes, values, factors, shifts, result,
            reach, radius, threshold, begin, end,
        )  # fmt: skip

    whole, real = types.int64, types.float32
    arrays: tuple[Any, ...] = (
        whole[::1],
        whole[:, ::1],
        whole[:, ::1],
        types.boolean[::1],
        types.int8[:, ::1],
        real[:, ::1],
        real[::1],
        real[::1],
        real[:, :, :, ::1],
    )
    signature = types.void(*arrays, whole, whole, real, whole, whole)
    return numba.njit(signature, cache=cache, **OPTIONS)(views)


def _revision() -> int:
    """A number that changes with any file of this folder."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest()[:7], "big")
