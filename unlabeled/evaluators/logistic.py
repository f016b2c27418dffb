"""Multinomial logistic regression, many problems at once, by L-BFGS."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

MEMORY = 10
WIDEST_ROTATION = 4096
BLOCK = 2**22
"""Logits that are held at once when predicting."""
LARGEST = 2**24
"""Weights that are fitted at once; L-BFGS holds about 25 numbers for each."""


@dataclass(frozen=True)
class Scaler:
    """``(x - mean) / std`` a dimension; dimensions that do not vary become zero."""

    mean: Tensor
    std: Tensor

    @staticmethod
    def fit(x: Float[Tensor, "N d"]) -> Scaler:
        """Take mean and std off the rows of ``x``."""
        mean = x.mean(0, dtype=torch.float64)
        std = x.std(0, correction=0).double()
        # below the rounding of the mean a dimension is constant
        flat = std <= 1e-6 * (mean.abs() + std.max())
        return Scaler(mean.float(), torch.where(flat, torch.inf, std).float())

    def __call__(self, x: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
        """Return a standardized copy."""
        return (x - self.mean).div_(self.std)


@dataclass(frozen=True)
class Fit:
    """Solutions of P problems on each of B data sets.

    Args:
        weight: [B, P, d, C].
        bias: [B, P, C].
        loss: [B, P], the objective.
        steps: iterations of L-BFGS.
        converged: [B, P] bool.
    """

    weight: Tensor
    bias: Tensor
    loss: Tensor
    steps: int
    converged: Tensor

    def logits(self, x: Float[Tensor, "B n d"]) -> Float[Tensor, "B n P C"]:
        """Evaluate all problems of each data set with one matrix product."""
        batch, problems, width, classes = self.weight.shape
        flat = self.weight.permute(0, 2, 1, 3).reshape(batch, width, problems * classes)
        out = torch.baddbmm(self.bias.reshape(batch, 1, -1), x, flat)
        return out.view(*x.shape[:2], problems, classes)

    def log_likelihood(
        self, x: Float[Tensor, "B n d"], label: Int[Tensor, "B n"]
    ) -> Float[Tensor, "B n P"]:
        """Return the log probability of each label."""
        logits = self.logits(x)
        index = label[:, :, None, None].expand(*logits.shape[:3], 1)
        return logits.log_softmax(3).gather(3, index)[..., 0]

    def predict(self, x: Float[Tensor, "B n d"]) -> Int[Tensor, "B n P"]:
        """Return the likeliest class, in blocks of rows."""
        rows = max(1, BLOCK // (self.weight[:, :, 0].numel()))
        return torch.cat([self.logits(part).argmax(3) for part in x.split(rows, 1)], 1)


def fit(
    x: Float[Tensor, "B n d"],
    label: Int[Tensor, "B n"],
    *,
    classes: int,
    strength: Float[Tensor, "B P"],
    weight: Float[Tensor, "B P n"] | None = None,
    start: tuple[Tensor, Tensor] | None = None,
    steps: int = 200,
    tolerance: float = 1e-4,
) -> Fit:
    """Fit P problems to each of B data sets.

    Minimizes ``sum_i w_i CE(softmax(W^T x_i + c), y_i) + strength / 2 |W|^2``, ``sum_i w_i = 1``.

    All problems share their matrix products, up to `LARGEST` weights. The variables are scaled by
    ``(S / 2 + strength)^(1/2)``, S the second moment of x in its eigenbasis, since ``S / 2``
    bounds the Hessian (Boehning 1992): steps of length one then are safe from the first on. A
    problem stops when five steps lower its objective by less than ``tolerance``, in nats.

    Args:
        x: standardized features, float32.
        label: 0 .. classes - 1.
        classes: C.
        strength: of the L2 term, positive; scikit-learn's ``C`` is ``1 / (n strength)``.
        weight: of the samples, 0 leaves one out; all equal by default.
        start: weight [B, P, d, C] and bias [B, P, C] to start at, zeros by default.
        steps: at most so many.
        tolerance: see above.

    Raises:
        ValueError: a strength that is not positive.
    """
    if not bool((strength > 0).all()):
        raise ValueError(f"strength is {strength.min().item()}: L2 needs a positive number")
    size, problems = x.shape[2] * classes, strength.shape[1]
    data = max(1, LARGEST // (size * problems))
    parts = []
    for b in range(0, len(x), data):
        rows = slice(b, b + data)
        pace = max(1, LARGEST // (size * min(data, len(x))))
        for p in range(0, problems, pace):
            some = slice(p, p + pace)
            part = _Problem(
                x[rows],
                label[rows],
                classes=classes,
                strength=strength[rows, some],
                weight=None if weight is None else weight[rows, some],
            )
            begin = None if start is None else (start[0][rows, some], start[1][rows, some])
            parts.append((b, _descend(part, begin, steps=steps, tolerance=tolerance)))
    places = sorted({b for b, _ in parts})
    return _join([_join([found for b, found in parts if b == at], 1) for at in places], 0)


def _join(parts: list[Fit], axis: int) -> Fit:
    return Fit(
        weight=torch.cat([part.weight for part in parts], axis),
        bias=torch.cat([part.bias for part in parts], axis),
        loss=torch.cat([part.loss for part in parts], axis),
        steps=max(part.steps for part in parts),
        converged=torch.cat([part.converged for part in parts], axis),
    )


def _descend(
    problem: _Problem, start: tuple[Tensor, Tensor] | None, *, steps: int, tolerance: float
) -> Fit:
    point = problem.enter(start)
    loss, grad = problem.loss(point)
    recent = deque([loss], maxlen=6)
    pairs: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=MEMORY)
    done = torch.zeros_like(loss, dtype=torch.bool)
    step = 0
    while step < steps and not bool(done.all()):
        step += 1
        direction = _direction(grad, pairs)
        slope = _dot(grad, direction)
        # history can go stale in float32: then go straight downhill
        uphill = slope >= 0
        if bool(uphill.any()):
            direction = torch.where(_wide(uphill), -grad, direction)
            slope = torch.where(uphill, -_dot(grad, grad), slope)
        new, new_loss, new_grad, moved = _search(
            problem, point, loss, grad, direction, slope, done=done
        )
        change, bend = new - point, new_grad - grad
        curvature = _dot(change, bend)
        use = moved & (curvature > 1e-10 * _dot(bend, bend))
        inverse = torch.where(use, 1 / torch.where(use, curvature, 1.0), 0.0)
        pairs.append((change, bend, inverse))
        point, loss, grad = new, new_loss, new_grad
        recent.append(loss)
        if len(recent) == recent.maxlen:
            done = done | (recent[0] - loss <= tolerance)
        done = done | ~moved  # no step helps any more: float32 is exhausted
    return Fit(*problem.leave(point), loss, step, done)


class _Problem:
    """The objective in scaled, rotated variables [B, P, d + 1, C] (bias last)."""

    def __init__(
        self,
        x: Tensor,
        label: Tensor,
        *,
        classes: int,
        strength: Tensor,
        weight: Tensor | None,
    ) -> None:
        batch, _, width = x.shape
        self.classes, self.label = classes, label
        self.weight = weight  # [B, P, n] or None
        if weight is not None:
            self.weight = weight / weight.sum(2, keepdim=True)
        shared = x.reshape(-1, width)
        moment = shared.square().mean(0)
        self.basis: Tensor | None = None
        if width <= WIDEST_ROTATION:
            moment, self.basis = torch.linalg.eigh(shared.T @ shared / len(shared))
            x = x @ self.basis
        self.x = x
        bound = moment.clamp_min(0) / 2 + strength[:, :, None]  # [B, P, d]
        half = torch.full_like(bound[:, :, :1], 0.5)
        self.scale = torch.cat([bound, half], 2).rsqrt()[..., None]  # [B, P, d + 1, 1]
        self.strength = strength[:, :, None, None] * self.scale[:, :, :-1].square()
        self.shape = (batch, strength.shape[1], width + 1, classes)

    def enter(self, start: tuple[Tensor, Tensor] | None) -> Tensor:
        if start is None:
            return self.x.new_zeros(self.shape)
        weight = start[0] if self.basis is None else self.basis.T @ start[0]
        return torch.cat([weight, start[1][:, :, None]], 2) / self.scale

    def leave(self, point: Tensor) -> tuple[Tensor, Tensor]:
        value = point * self.scale
        weight = value[:, :, :-1]
        return (weight if self.basis is None else self.basis @ weight), value[:, :, -1]

    def loss(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Objective [B, P] and its gradient, in blocks of rows that stay in the cache."""
        batch, problems, wide, classes = self.shape
        value = (point * self.scale).permute(0, 2, 1, 3).reshape(batch, wide, -1)
        flat, bias = value[:, :-1], value[:, -1:]
        count = self.x.shape[1]
        total = point.new_zeros(batch, problems, dtype=torch.float64)
        grad = torch.zeros_like(value)
        rows = max(64, 2**18 // (problems * classes))
        for at in range(0, count, rows):
            x, label = self.x[:, at : at + rows], self.label[:, at : at + rows]
            share = torch.baddbmm(bias, x, flat).view(batch, -1, problems, classes)
            index = label[:, :, None, None].expand(-1, -1, problems, 1)
            share = torch.log_softmax(share, 3)
            right = share.gather(3, index)[..., 0]  # [B, rows, P]
            share = share.exp_().scatter_add_(3, index, -torch.ones_like(right)[..., None])
            if self.weight is None:
                total -= right.sum(1, dtype=torch.float64) / count
                share /= count
            else:
                weight = self.weight[:, :, at : at + rows].transpose(1, 2)
                total -= (right * weight).sum(1, dtype=torch.float64)
                share *= weight[..., None]
            share = share.view(batch, -1, problems * classes)
            grad[:, :-1].baddbmm_(x.transpose(1, 2), share)
            grad[:, -1] += share.sum(1)
        grad = grad.view(batch, wide, problems, classes).permute(0, 2, 1, 3) * self.scale
        grad[:, :, :-1] += self.strength * point[:, :, :-1]
        penalty = (self.strength * point[:, :, :-1].square()).sum((2, 3), dtype=torch.float64)
        return total + penalty / 2, grad


def _search(
    problem: _Problem,
    point: Tensor,
    loss: Tensor,
    grad: Tensor,
    direction: Tensor,
    slope: Tensor,
    *,
    done: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Halve the step of each problem until its objective falls enough (Armijo); at most 10 times.

    Problems that are done, and those for which no step helps, stay where they are.
    """
    length = torch.where(done, 0.0, torch.ones_like(slope))
    best, best_loss, best_grad = point, loss, grad
    moved = done
    for _ in range(10):
        trial = point + _wide(length) * direction
        trial_loss, trial_grad = problem.loss(trial)
        falls = ~moved & (trial_loss <= loss + 1e-4 * length * slope)
        if bool(falls.all()):
            return trial, trial_loss, trial_grad, falls
        best = torch.where(_wide(falls), trial, best)
        best_grad = torch.where(_wide(falls), trial_grad, best_grad)
        best_loss = torch.where(falls, trial_loss, best_loss)
        moved = moved | falls
        if bool(moved.all()):
            break
        length = torch.where(moved, 0.0, length / 2)
    return best, best_loss, best_grad, moved


def _direction(grad: Tensor, pairs: deque[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """The two loops of L-BFGS (Nocedal 1980), a history a problem."""
    if not pairs:
        return -grad
    q = grad.clone()
    alphas = []
    for change, bend, inverse in reversed(pairs):
        alpha = inverse * _dot(change, q)
        q -= _wide(alpha) * bend
        alphas.append(alpha)
    gamma = torch.ones_like(alphas[0])
    for _, bend, inverse in pairs:  # the newest usable pair counts
        energy = _dot(bend, bend)
        gamma = torch.where(inverse > 0, 1 / (inverse * energy).clamp_min(1e-30), gamma)
    q *= _wide(gamma)
    for (change, bend, inverse), alpha in zip(pairs, reversed(alphas), strict=True):
        q += _wide(alpha - inverse * _dot(bend, q)) * change
    return -q


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((2, 3), dtype=torch.float64)


def _wide(value: Tensor) -> Tensor:
    return value[:, :, None, None] if value.dtype == torch.bool else value[:, :, None, None].float()
