"""The policy similarity metric, and the contrastive loss that embeds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from unlabeled.ops.precision import autocast_off, upcast

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

EPS = 1e-9


@torch.no_grad()
def policy_similarity(cost: Float[Tensor, "*B N M"], *, gamma: float) -> Float[Tensor, "*B N M"]:
    """``d(x_i, y_j) = cost_ij + gamma d(x_{i+1}, y_{j+1})``, the last states looping to themselves.

    PSE (arXiv:2101.05265, eq. 2) for optimal runs of deterministic tasks; an index stays at the
    end of its run, so the corner is ``cost / (1 - gamma)``. A run may be padded with its last
    state, which changes nothing. At most ``max cost / (1 - gamma)``.

    Args:
        cost: distance of the optimal actions at x_i and y_j: 0 where they are equal, 1 where not.
        gamma: in [0, 1).
    """
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma is {gamma}: give it in [0, 1)")
    metric = cost.clone()
    metric[..., -1, -1] /= 1 - gamma
    rows, columns = cost.shape[-2:]
    for j in range(columns - 2, -1, -1):
        metric[..., -1, j] += gamma * metric[..., -1, j + 1]
    for i in range(rows - 2, -1, -1):
        metric[..., i, -1] += gamma * metric[..., i + 1, -1]
        metric[..., i, :-1] += gamma * metric[..., i + 1, 1:]
    return metric


def coupled_contrast(
    x: Float[Tensor, "P N D"],
    y: Float[Tensor, "P M D"],
    metric: Float[Tensor, "P N M"],
    *,
    temperature: float,
    scale: float,
    valid_x: Bool[Tensor, "P N"],
    valid_y: Bool[Tensor, "P M"],
) -> Float[Tensor, ""]:
    """Contrastive metric embeddings: the nearest state by the metric attracts, others by how far.

    With ``G = exp(-d / beta)``, ``e = exp(cosine / T)`` and y~ the nearest of x_i:
    ``-log G(x_i, y~) e(x_i, y~) / (G(x_i, y~) e(x_i, y~) + sum_{y != y~} (1 - G(x_i, y)) e(x_i,
    y))``, the mean over x_i, plus the same for y_j over x (PSE, eq. 5), the mean over pairs.

    Args:
        x: embeddings of the states of P runs.
        y: of P other runs.
        metric: d, without gradient.
        temperature: T.
        scale: beta.
        valid_x: False for padding.
        valid_y: likewise.
    """
    if temperature <= 0 or scale <= 0:
        raise ValueError(f"temperature is {temperature}, scale {scale}: give values above 0")
    with autocast_off(x):
        logits = F.normalize(upcast(x), dim=2) @ F.normalize(upcast(y), dim=2).mT / temperature
        metric = upcast(metric)
        one = _one_way(logits, metric, scale, valid_x, valid_y)
        return one + _one_way(logits.mT, metric.mT, scale, valid_y, valid_x)


def _one_way(logits: Tensor, metric: Tensor, scale: float, valid: Tensor, others: Tensor) -> Tensor:
    far = metric.masked_fill(~others[:, None], torch.inf)
    nearest = far.argmin(2, keepdim=True)
    alike = -metric / scale
    apart = (1 - alike.exp() + EPS).log()
    weight = apart.scatter(2, nearest, alike.gather(2, nearest))
    weighted = (logits + weight).masked_fill(~others[:, None], -torch.inf)
    loss = weighted.logsumexp(2) - weighted.gather(2, nearest)[..., 0]
    count = valid.sum(1).clamp_min(1)
    return ((loss * valid).sum(1) / count).mean()
