"""Cross-entropy of views with the targets of other views, in one pass over the logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unlabeled.ops.precision import autocast_off, upcast

_BLOCK_BYTES = 2**21  # of float32 logits of all views: stays in cache over the passes of a block


def cross_view(
    logits: Sequence[Tensor],
    targets: Callable[[slice], Tensor],
    *,
    count: int,
    temperature: float,
) -> Tensor:
    """Mean over samples, target views a and other views v of ``-sum_k p_a[k] log q_v[k]``.

    ``q_v = softmax(logits_v / temperature)``. View a of the targets is view a of the logits; the
    pairs of the same view are left out. The gradient is made in the forward pass, a block of
    samples at a time, so beside logits and gradient nothing of their size exists; it is scaled in
    place by the backward pass, which can therefore run once.

    Args:
        logits: [V, B, K], the views of which may come in several parts with V_1 + V_2 + ...
        targets: rows of the batch -> [count, b, K], probabilities without gradient.
        count: how many views have targets.
        temperature: of q.
    """
    with autocast_off(logits[0]):
        return _CrossView.apply(targets, count, temperature, torch.is_grad_enabled(), *logits)


class _CrossView(torch.autograd.Function):
    """With m_v the mass of v's targets: loss_v = m_v lse(s_v) - sum_a <p_a, s_v>."""

    @staticmethod
    def forward(
        ctx: Any,
        targets: Callable[[slice], Tensor],
        count: int,
        temperature: float,
        learns: bool,
        *logits: Tensor,
    ) -> Tensor:
        views, (batch, width) = sum(map(len, logits)), logits[0].shape[1:]
        dtype = upcast(logits[0][:0]).dtype
        pairs = torch.ones(views, count, dtype=dtype, device=logits[0].device)
        pairs[:count].fill_diagonal_(0)
        share = 1 / (count * (views - 1) * batch)
        # an unscaled gradient may be below what float16 can hold
        gradients = [
            torch.empty_like(part, dtype=dtype if part.dtype == torch.float16 else None)
            for part in (logits if learns else ())
        ]
        total = pairs.new_zeros(())
        step = max(1, _BLOCK_BYTES // (4 * views * width))
        for start in range(0, batch, step):
            rows = slice(start, start + step)
            parts = [part[:, rows].to(dtype) for part in logits]
            block = parts[0] if len(parts) == 1 else torch.cat(parts)
            wanted = targets(rows).to(dtype)
            by_row = wanted.transpose(0, 1)
            products = torch.bmm(block.transpose(0, 1), by_row.mT)  # [b, V, count]
            mass = (pairs @ wanted.sum(2))[..., None]
            top = block.amax(2, keepdim=True)
            values = torch.sub(block, top).mul_(1 / temperature).exp_()
            sums = values.sum(2, keepdim=True)
            total += (mass * (sums.log() + top / temperature)).sum()
            total -= (products * pairs).sum() / temperature
            if learns:
                values.mul_(mass * (share / temperature) / sums)
                values.transpose(0, 1).baddbmm_(
                    pairs.expand(by_row.shape[0], -1, -1), by_row, alpha=-share / temperature
                )
                first = 0
                for gradient in gradients:
                    gradient[:, rows] = values[first : first + len(gradient)]
                    first += len(gradient)
        ctx.gradients, ctx.dtypes = gradients, [part.dtype for part in logits]
        return total * share

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError(
                "a second backward pass through a cross-view loss, which keeps its gradient for "
                "one: compute the loss again, or sum the losses and call backward once"
            )
        gradients, ctx.gradients = ctx.gradients, None
        scaled = [
            gradient.mul_(grad).to(dtype)
            for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)
        ]
        return None, None, None, None, *scaled
