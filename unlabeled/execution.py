"""How encoders run: in chunks of the batch, or compiled. The result is the same, by another way.

Both change how a built method's encoders are called and nothing else: no parameter, buffer or
state-dict key. They are options of a run, like its devices, and no part of a recipe.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from unlabeled.encoders.encoder import Encoder
from unlabeled.nn.norms import SplitBatchNorm2d
from unlabeled.nn.recompute import recompute

_CALLS = ("forward", "local", "maps")


def cache_gradients(method: nn.Module, *, chunk: int) -> None:
    """Let every encoder in ``method``, teachers included, run in chunks of the batch, in place.

    ``encoder(x)``, ``encoder.local(x)`` and ``encoder.maps(x)`` keep only their inputs and
    outputs; the backward pass runs each chunk again, so that the activations of one chunk are all
    that memory must hold (GradCache, arXiv:2101.06983, sec. 3.2). Heads and losses see the whole
    batch: loss and gradient are those of the whole batch, except that a batch norm in the encoder
    sees a chunk, as it would on one of several devices without synchronization. A split batch
    norm shares its splits among the chunks, so a chunk of one split changes nothing.

    Args:
        method: built and, if at all, compiled.
        chunk: samples of a chunk, at most; chunks are equally large as far as that is possible.

    Raises:
        ValueError: ``chunk`` is below 1.
    """
    if chunk < 1:
        raise ValueError(f"grad_cache is {chunk}: give the samples of a chunk, at least 1")
    for encoder in _encoders(method):
        for name in _CALLS:
            whole = getattr(encoder, name)
            setattr(encoder, name, partial(_in_chunks, encoder, whole, chunk))


def _in_chunks(encoder: Encoder, whole: Callable[[Any], Tensor], chunk: int, x: Any) -> Tensor:
    if not isinstance(x, Tensor):
        raise ValueError(
            f"grad_cache cannot cut a {type(x).__name__} into chunks: leave it out for this encoder"
        )
    if len(x) <= chunk:
        return whole(x)
    count = -(-len(x) // chunk)
    run = partial(_with_splits, encoder, whole, count)
    return torch.cat([recompute(encoder, run, part) for part in x.tensor_split(count)])


def _with_splits(encoder: Encoder, whole: Callable[[Any], Tensor], count: int, x: Tensor) -> Tensor:
    """Run one of ``count`` chunks, which take a share each of the splits of the batch."""
    norms = [part for part in encoder.modules() if isinstance(part, SplitBatchNorm2d)]
    splits = [norm.splits for norm in norms]
    for norm in norms:
        norm.splits = max(1, norm.splits // count)
    try:
        return whole(x)
    finally:
        for norm, number in zip(norms, splits, strict=True):
            norm.splits = number


def compile_encoders(method: nn.Module) -> None:
    """Let every encoder in ``method``, teachers included, run as `torch.compile` makes it.

    In training mode only: looks at a few samples between epochs are not worth another compilation.

    Raises:
        ValueError: torch cannot compile here, with the cause.
    """
    _try_compiler()
    for encoder in _encoders(method):
        for name in _CALLS:
            plain = getattr(encoder, name)
            setattr(encoder, name, partial(_compiled, encoder, plain, torch.compile(plain)))


def _compiled(
    encoder: Encoder, plain: Callable[[Any], Tensor], fast: Callable[[Any], Tensor], x: Any
) -> Tensor:
    return fast(x) if encoder.training else plain(x)


def _try_compiler() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.compile(_trial)(torch.ones(2, device=device))
    except Exception as error:  # whatever a tool chain can do wrong
        cause = " ".join(str(error).split())[:160]
        raise ValueError(
            f"--compile: torch.compile does not work here ({type(error).__name__}: {cause}): "
            "install a C++ compiler such as g++ (on a GPU also triton), or leave out --compile"
        ) from error


def _trial(x: Tensor) -> Tensor:
    return x.sin() + 1


def _encoders(method: nn.Module) -> list[Encoder]:
    return [module for module in method.modules() if isinstance(module, Encoder)]
