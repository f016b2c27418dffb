"""Projection and prediction heads."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import nn

LastNorm = Literal["none", "affine", "plain", "scale"]


def mlp(
    *dims: int,
    hidden_norm: bool = True,
    hidden_bias: bool = False,
    last_bias: bool = True,
    last_norm: LastNorm = "none",
) -> nn.Sequential:
    """Linear - [BatchNorm] - ReLU - ... - Linear - [norm], [B, dims[0]] -> [B, dims[-1]].

    Two widths make one linear layer. The papers' heads: MoCo v2 (2003.04297)
    ``hidden_norm=False, hidden_bias=True``; SimCLR (2002.05709, official code)
    ``last_bias=False, last_norm="scale"``; BYOL (2006.07733, app. C) ``hidden_bias=True,
    last_bias=False``; SimSiam's projector (2011.10566, sec. 3) ``last_norm="plain"``.

    Args:
        dims: widths from input to output.
        hidden_norm: whether each hidden layer is batch-normalized (scale and center).
        hidden_bias: whether each hidden linear layer has a bias.
        last_bias: whether the last linear layer has a bias.
        last_norm: after the last layer: "none", or batch normalization with scale and center
            ("affine"), without either ("plain"), or with a scale only ("scale").

    Raises:
        ValueError: fewer than two widths, a width below 1, an unknown ``last_norm``.
    """
    if len(dims) < 2 or min(dims) < 1:
        raise ValueError(f"widths are {dims}: give at least an input and an output width, all > 0")
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(dims[:-1]):
        layers.append(nn.Linear(width_in, width_out, bias=hidden_bias))
        if hidden_norm:
            layers.append(nn.BatchNorm1d(width_out))
        layers.append(nn.ReLU(inplace=True))
    layers.append(nn.Linear(dims[-2], dims[-1], bias=last_bias))
    if last_norm != "none":
        layers.append(_last_norm(dims[-1], kind=last_norm))
    return nn.Sequential(*layers)


def _last_norm(dim: int, *, kind: LastNorm) -> nn.BatchNorm1d:
    if kind == "affine":
        return nn.BatchNorm1d(dim)
    if kind == "plain":
        return nn.BatchNorm1d(dim, affine=False)
    if kind == "scale":
        norm = nn.BatchNorm1d(dim)
        # a zero that is no parameter: the state-dict keys and the fused kernel stay those of a
        # full batch norm, and no optimizer ever moves it
        del norm.bias
        norm.register_buffer("bias", torch.zeros(dim))
        return norm
    raise ValueError(f'last_norm is {kind!r}: choose "none", "affine", "plain" or "scale"')
