"""Views of images on a CPU by one compiled kernel (`unlabeled.views.compiled`).

numba compiles it at its first use and keeps it on disk, beside the source or, where that cannot be
written, in the user's cache folder (or in NUMBA_CACHE_DIR). Nothing imports numba before.
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
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unlabeled.data.source import ImageSpec
from unlabeled.views.resize import Images

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int8

LOG = logging.getLogger("unlabeled")
BRIGHTNESS = 1  # of compiled.view's codes; those of contrast, saturation and hue follow
CODES = {"gray": 5, "blur": 6, "solarize": 7}
_PATIENCE = 3.0  # seconds: reading the kernel from disk takes less, compiling it more


class Operations(NamedTuple):
    """What is done to each view between its crop and its normalization."""

    codes: Int8[Tensor, "B K"]
    """In each sample's own order: `BRIGHTNESS` to + 3, of `CODES`, or 0 for nothing."""
    values: Float[Tensor, "B K"]
    """Factors of brightness, contrast and saturation, turns of hue, sigmas of blur in pixels."""
    radius: int
    """The most taps a side of the blur."""
    threshold: float
    """Of solarize."""


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether numba is installed; the log says once what to do where it is not."""
    found = importlib.util.find_spec("numba") is not None
    if not found:
        LOG.warning("views on the CPU take about ten times longer without numba: pip install numba")
    return found


def render(
    images: Images,
    box: Float[Tensor, "B 4"],
    flip: Bool[Tensor, " B"],
    operations: Operations | None,
    *,
    spec: ImageSpec,
    interpolation: str,
) -> Float[Tensor, "B C S S"]:
    """Cut out, resize, mirror, change and normalize images on the CPU, all in one go.

    Equals `crop_resize` followed by the functions of `unlabeled.views.ops`, to rounding; blur
    leaves out taps that weigh 2e-5 together. A view depends on its own image and numbers alone,
    bit for bit, whatever the batch and the number of threads, which is torch's.

    Args:
        images: N images; B is a multiple of N, the views of all for the first time come first.
        box: top, left, height, width of the crops in whole pixels.
        flip: whether to mirror.
        operations: None for none.
        spec: channels, size and normalization of the views.
        interpolation: "bilinear" or "bicubic".

    Raises:
        ValueError: a box is no part of its image.
    """
    count = len(box)
    images = _side_by_side(images)  # kept until the kernel is done
    boxes = box.numpy().astype(np.int64)
    addresses, layouts = _layout(images, boxes)
    if operations is None:
        nothing = torch.empty(count, 0)
        operations = Operations(nothing.to(torch.int8), nothing, radius=1, threshold=1.0)
    result = _empty(count, spec.channels, spec.size, spec.size)
    scale = 1 / np.asarray(spec.std, np.float64)
    arguments = (
        addresses,
        layouts,
        boxes,
        np.ascontiguousarray(flip.numpy()),
        np.ascontiguousarray(operations.codes.numpy()),
        np.ascontiguousarray(operations.values.numpy()),
        scale.astype(np.float32),
        (-np.asarray(spec.mean, np.float64) * scale).astype(np.float32),
        result.numpy(),
        2 if interpolation == "bicubic" else 1,
        operations.radius,
        np.float32(operations.threshold),
    )
    kernel, threads = _kernel(), min(torch.get_num_threads(), count)
    if threads == 1:
        kernel(*arguments, 0, count)
        return result
    part = math.ceil(count / (4 * threads))  # views differ in cost
    pool = _pool(os.getpid(), threads)
    tasks = [
        pool.submit(kernel, *arguments, start, min(start + part, count))
        for start in range(0, count, part)
    ]
    for task in tasks:
        task.result()
    return result


def _side_by_side(images: Images) -> Images:
    """The images with the values of a row next to each other."""
    if isinstance(images, Tensor):
        return images if images.stride(3) == 1 else images.contiguous()
    return [image if image.stride(2) == 1 else image.contiguous() for image in images]


def _layout(
    images: Images, boxes: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Addresses [B], and [B, 3]: bytes to the next channel, to the next row, whether float32.

    Threads read there without a check, so the boxes are checked here.
    """
    if isinstance(images, Tensor):
        step = images.stride(0) * images.element_size()
        facts = np.array([_facts(images[0])], np.int64).repeat(len(images), 0)
        facts[:, 0] += step * np.arange(len(images))
    else:
        facts = np.array([_facts(image) for image in images], np.int64)
    facts = np.tile(facts, (len(boxes) // len(facts), 1))
    top, left, tall, wide = boxes.T
    bad = (top < 0) | (left < 0) | (tall < 1) | (wide < 1)
    bad |= (top + tall > facts[:, 4]) | (left + wide > facts[:, 5])
    if bad.any():
        place = int(bad.argmax())
        raise ValueError(
            f"box is {boxes[place].tolist()} (top, left, height, width), its image is "
            f"{facts[place, 4]} x {facts[place, 5]}: give whole pixels of the image"
        )
    return np.ascontiguousarray(facts[:, 0]), np.ascontiguousarray(facts[:, 1:4])


def _facts(image: Tensor) -> tuple[int, ...]:
    size = image.element_size()
    steps = (image.stride(0) * size, image.stride(1) * size)
    return image.data_ptr(), *steps, int(size == 4), *image.shape[1:]


def _empty(*shape: int) -> Tensor:
    """Memory for a result.

    NumPy asks the system for huge pages, torch does not: first writes to small ones can take as
    long as the views themselves. On 64 bytes as torch's own, so that products round alike.
    """
    count = math.prod(shape)
    memory = np.empty(count + 16, np.float32)
    start = -(memory.ctypes.data // 4) % 16
    return torch.from_numpy(memory[start : start + count]).view(shape)


@lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads of this process (a fork has none of its parent's); they wait asleep.

    Not numba's own: those end the process where two threads call or where it was forked, and
    their loops take twice as long to compile.
    """
    return ThreadPoolExecutor(threads, thread_name_prefix="views")


@lru_cache(maxsize=1)
def _kernel() -> Callable[..., None]:
    from unlabeled.views.compiled import compiled

    notice = threading.Timer(_PATIENCE, LOG.info, ["compiling the view kernel, once"])
    notice.daemon = True
    notice.start()
    try:
        return compiled(cache=True)
    except RuntimeError:  # numba finds no folder that it can write to
        LOG.info("the view kernel is compiled each time: set NUMBA_CACHE_DIR to a writable folder")
        return compiled(cache=False)
    finally:
        notice.cancel()
