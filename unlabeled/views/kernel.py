"""Batched views of images on a CPU by one compiled kernel (`unlabeled.views.loops`).

numba compiles it at its first use and keeps it on disk; nothing imports numba before.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from unlabeled.views.resize import Images

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

LOG = logging.getLogger("unlabeled")
BRIGHTNESS = 1  # the jitters' codes follow: contrast, saturation, hue
CODES = {"gray": 5, "blur": 6, "solarize": 7}
_PATIENCE = 1.0  # seconds: reading the kernel from disk takes less, compiling it more


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether numba is installed; says once what to do where it is not."""
    found = importlib.util.find_spec("numba") is not None
    if not found:
        LOG.warning("views take about eight times longer without numba: pip install numba")
    return found


def render(
    images: Images,
    box: Float[Tensor, "B 4"],
    flip: Bool[Tensor, " B"],
    *,
    size: int,
    interpolation: str,
    codes: Int[Tensor, "B K"],
    values: Float[Tensor, "B K"],
    radius: int,
    threshold: float,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Float[Tensor, "B C S S"]:
    count, channels = len(images), images[0].shape[0]
    images = _side_by_side(images)  # kept until the kernel is done
    addresses, layouts = _layout(images)
    result = _empty(count, channels, size, size)
    inverse = 1 / np.asarray(std, np.float64)
    arguments = (
        addresses,
        layouts,
        np.ascontiguousarray(box.numpy().astype(np.int64)),
        np.ascontiguousarray(flip.numpy()),
        np.ascontiguousarray(codes.numpy()),
        np.ascontiguousarray(values.numpy()),
        inverse.astype(np.float32),
        (-np.asarray(mean, np.float64) * inverse).astype(np.float32),
        result.numpy(),
        2 if interpolation == "bicubic" else 1,
        radius,
        np.float32(threshold),
    )
    kernel = _kernel()
    threads = min(torch.get_num_threads(), count)
    if threads == 1:
        kernel(*arguments, 0, count)
        return result
    part = math.ceil(count / (4 * threads))  # samples differ in cost
    tasks = [
        _threads(os.getpid(), threads).submit(kernel, *arguments, start, min(start + part, count))
        for start in range(0, count, part)
    ]
    for task in tasks:
        task.result()
    return result


def _empty(*shape: int) -> Tensor:
    """Memory for a result, on 64 bytes as torch's own, so that what follows rounds alike.

    NumPy asks the system for huge pages, torch does not; filling fresh small ones can take
    as long as the views.
    """
    count = math.prod(shape)
    memory = np.empty(count + 16, np.float32)
    start = -(memory.ctypes.data // 4) % 16
    return torch.from_numpy(memory[start : start + count]).view(shape)


def _layout(images: Images) -> tuple[Any, Any]:
    """Addresses [B], and [B, 3]: bytes to the next channel, to the next row, whether float32."""
    if isinstance(images, Tensor):
        start, step = images.data_ptr(), images.stride(0) * images.element_size()
        addresses = np.arange(start, start + step * len(images), step, dtype=np.int64) if step else np.full(len(images), start)
        return addresses, np.tile(_steps(images[0]), (len(images), 1))
    addresses = np.array([image.data_ptr() for image in images], np.int64)
    return addresses, np.array([_steps(image) for image in images], np.int64)


def _steps(image: Tensor) -> tuple[int, int, int]:
    size = image.element_size()
    return image.stride(0) * size, image.stride(1) * size, int(size == 4)


def _side_by_side(images: Images) -> Images:
    """The images with the pixels of a row next to each other."""
    if isinstance(images, Tensor):
        return images if images.stride(3) == 1 else images.contiguous()
    return [image if image.stride(2) == 1 else image.contiguous() for image in images]


@lru_cache(maxsize=1)
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    """The pool of this process: one does not live through a fork."""
    return ThreadPoolExecutor(count, thread_name_prefix="views")


@lru_cache(maxsize=1)
def _kernel() -> Callable[..., None]:
    from unlabeled.views import loops

    return loops.views
