"""Activation checkpointing: keep what goes into a part, and compute the rest again when needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recompute(part: nn.Module, run: Callable[[Any], Tensor], x: Any) -> Tensor:
    """Return ``run(x)`` without keeping its activations; the backward pass computes them again.

    Chen et al., arXiv:1604.06174. Value, gradient and random numbers are those of ``run(x)``, and
    buffers of ``part`` (running statistics) move once: the second pass has copies of them.

    Args:
        part: whose buffers ``run`` changes.
        run: a function of x that uses ``part``.
        x: what is kept.
    """
    if not torch.is_grad_enabled():
        return run(x)
    result: Tensor = checkpoint(run, x, use_reentrant=False, context_fn=partial(_once_more, part))
    return result


def recompute_parts(module: nn.Module, names: tuple[str, ...]) -> None:
    """Let the sub-modules of these names run by `recompute` from now on, in place.

    State-dict keys stay.

    Raises:
        ValueError: a name that the module does not have.
    """
    known = dict(module.named_modules())
    for name in names:
        if name not in known:
            have = ", ".join(child for child, _ in module.named_children())
            raise ValueError(f"no part {name!r} to compute again: there are {have}")
        part: Any = known[name]
        part.forward = partial(recompute, part, part.forward)


def _once_more(
    part: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _copied_buffers(part)


@contextmanager
def _copied_buffers(whole: nn.Module) -> Iterator[None]:
    """Lend a module copies of its buffers: running statistics moved in the first pass."""
    own = [
        (part, name, value)
        for part in whole.modules()
        for name, value in part._buffers.items()
        if value is not None
    ]
    for part, name, value in own:
        part._buffers[name] = value.clone()
    try:
        yield
    finally:
        for part, name, value in own:
            part._buffers[name] = value
