"""Layer-wise adaptive optimizers for large batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Lars(Optimizer):
    """SGD with momentum whose steps are scaled layer by layer (You et al., arXiv:1708.03888).

    With g the gradient and w the parameter::

        d = g + weight_decay w
        d = d trust ||w|| / ||d||        (1 where a norm is 0, and in groups with adapt=False)
        v = momentum v + d
        w = w - lr v                     (nesterov: lr (d + momentum v))

    lr is applied last, as in BYOL's and Barlow Twins' code. SimCLR's code has it inside v
    (v = momentum v + lr d), which is the same at a constant rate and lags behind a schedule.
    Groups may set ``adapt=False`` (with ``weight_decay=0`` the papers' treatment of biases and
    norms).

    Raises:
        ValueError: a negative value, or nesterov without momentum.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
        nesterov: bool = False,
    ) -> None:
        _check(lr=lr, momentum=momentum, weight_decay=weight_decay, trust=trust)
        if nesterov and momentum == 0:
            raise ValueError("nesterov needs momentum: give momentum > 0")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust": trust,
            "nesterov": nesterov,
            "adapt": True,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters; return the closure's loss."""
        loss = _evaluated(closure)
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            directions = _decayed(weights, weight_decay=group["weight_decay"])
            if group["adapt"]:
                lengths = torch.stack(torch._foreach_norm(weights))
                steps = torch.stack(torch._foreach_norm(directions))
                both = (lengths > 0) & (steps > 0)
                scales = torch.where(both, group["trust"] * lengths / steps, 1.0)
                torch._foreach_mul_(directions, list(scales.unbind()))
            _descend(self, group, weights, directions, nesterov=group["nesterov"])
        return loss


class Larc(Optimizer):
    """The variant of LARS that SwAV trains with (arXiv:2006.09882; LARC of apex, clip=False).

    With g the gradient and w the parameter::

        d = (g + weight_decay w) trust ||w|| / (||g|| + weight_decay ||w|| + 1e-8)
        v = momentum v + d
        w = w - lr v

    Where a norm is 0, d = g; in groups with adapt=False, d = g + weight_decay w.

    Raises:
        ValueError: a negative value.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
    ) -> None:
        _check(lr=lr, momentum=momentum, weight_decay=weight_decay, trust=trust)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust": trust,
            "adapt": True,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters; return the closure's loss."""
        loss = _evaluated(closure)
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            decay = group["weight_decay"]
            if group["adapt"]:
                gradients = [p.grad for p in weights]
                lengths = torch.stack(torch._foreach_norm(weights))
                slopes = torch.stack(torch._foreach_norm(gradients))
                both = (lengths > 0) & (slopes > 0)
                scales = group["trust"] * lengths / (slopes + decay * lengths + 1e-8)
                directions = list(
                    torch._foreach_mul(weights, list((both * decay).to(scales.dtype).unbind()))
                )
                torch._foreach_add_(directions, gradients)
                torch._foreach_mul_(directions, list(torch.where(both, scales, 1.0).unbind()))
            else:
                directions = _decayed(weights, weight_decay=decay)
            _descend(self, group, weights, directions, nesterov=False)
        return loss


class ClippedAdamW(torch.optim.AdamW):
    """AdamW that clips the gradient of each tensor by itself, as DINO's official code does.

    ``g <- g min(1, clip / (|g| + 1e-6))`` for every parameter tensor, then AdamW's step.

    Args:
        params: as of any optimizer.
        clip: the largest norm of a tensor's gradient.
        options: of `torch.optim.AdamW`.
    """

    def __init__(self, params: Any, *, clip: float, **options: Any) -> None:
        if not clip > 0:
            raise ValueError(f"clip is {clip}: give a norm above 0")
        super().__init__(params, **options)
        self.clip = clip

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Clip, then step."""
        loss = _evaluated(closure)
        gradients = [
            p.grad for group in self.param_groups for p in group["params"] if p.grad is not None
        ]
        if gradients:
            norms = torch.stack(torch._foreach_norm(gradients))
            scale = (self.clip / (norms + 1e-6)).clamp_max(1.0)
            torch._foreach_mul_(gradients, list(scale.unbind()))
        super().step()
        return loss


def lamb(params: Any, **options: Any) -> Optimizer:
    """LAMB as ALBERT's code has it, timm's: Adam's moments without bias correction, trust ratios.

    ``w <- w - lr |w| / |u| u`` with ``u = m / (sqrt(v) + eps) + decay w`` (arXiv:1904.00962).
    """
    from timm.optim.lamb import Lamb

    return Lamb(params, bias_correction=False, **{"eps": 1e-6, "max_grad_norm": None, **options})


def _check(*, lr: float, momentum: float, weight_decay: float, trust: float) -> None:
    given = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
    for name, value in given.items():
        if value < 0:
            raise ValueError(f"{name} is {value}: give a value of at least 0")


def _evaluated(closure: Callable[[], Any] | None) -> Any:
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def _decayed(weights: list[Tensor], *, weight_decay: float) -> list[Tensor]:
    gradients = [p.grad for p in weights if p.grad is not None]
    return list(torch._foreach_add(gradients, weights, alpha=weight_decay))


def _descend(
    optimizer: Optimizer,
    group: dict[str, Any],
    weights: list[Tensor],
    directions: list[Tensor],
    *,
    nesterov: bool,
) -> None:
    """``v = momentum v + d``, then ``w -= lr v``."""
    momentum = group["momentum"]
    if momentum > 0:
        velocities = []
        for weight in weights:
            state = optimizer.state[weight]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(weight)
            velocities.append(state["momentum_buffer"])
        torch._foreach_mul_(velocities, momentum)
        torch._foreach_add_(velocities, directions)
        if nesterov:
            torch._foreach_add_(directions, velocities, alpha=momentum)
        else:
            directions = velocities
    torch._foreach_add_(weights, directions, alpha=-group["lr"])
