"""Views of generated data: pairs of factors, the second drawn near the first, and mixed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.factors import FactorSpec, mix
from unlabeled.method import Batch
from unlabeled.views.generator import SampleGenerator

TRIES = 24
"""Proposals of `von_mises_fisher`: two in three are accepted, so one in 10^11 samples runs out."""


@dataclass(frozen=True)
class FactorPairs:
    """``g(z), g(z')``: z uniform in its space, z' from a conditional of z (CL-ICA, section 3).

    Factors are drawn anew in every epoch and do not come from the data, of which the space and g
    are used.

    Args:
        conditional: draws z' [B, dim] from z and a generator.
        spec: the data's; set by `fit`.
    """

    conditional: Callable[[Tensor, SampleGenerator], Tensor]
    spec: FactorSpec | None = None

    def fit(self, spec: FactorSpec) -> FactorPairs:
        """Return a copy with the spec."""
        return replace(self, spec=spec)

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """Return a new batch with two views [B, dim]."""
        if self.spec is None:
            raise ValueError("views have no spec: call fit(data.spec()) first")
        factors = self.spec.space.uniform(generator, self.spec.dim)
        near = self.conditional(factors, generator)
        return {
            "views": [mix(factors, self.spec), mix(near, self.spec)],
            "index": batch["index"],
        }


def von_mises_fisher(mean: Tensor, generator: SampleGenerator, *, concentration: float) -> Tensor:
    """[B, D] unit vectors with density proportional to ``exp(concentration mean.z)``, exactly.

    Wood's rejection method (Simulation of the von Mises Fisher distribution, 1994): the cosine
    with the mean is proposed from a beta distribution, the rest is uniform.
    """
    width = mean.shape[1] - 1
    root = (4 * concentration**2 + width**2) ** 0.5
    b = width / (
        2 * concentration + root
    )  # (root - 2 concentration) / width, without a cancellation
    x0 = (1 - b) / (1 + b)
    c = concentration * x0 + width * math.log1p(-(x0**2))
    gammas = generator.normal(TRIES, 2, width).double().square().sum(3)  # of shape width / 2
    beta = gammas[..., 0] / gammas.sum(2)
    cosine = (1 - (1 + b) * beta) / (1 - (1 - b) * beta)
    limit = concentration * cosine + width * torch.log1p(-x0 * cosine) - c
    accepted = limit >= (1 - generator.uniform(TRIES)).double().log()
    first = accepted.int().argmax(1, keepdim=True)
    cosine = cosine.gather(1, first).to(mean.dtype)
    noise = generator.normal(mean.shape[1]).to(mean.dtype)
    tangent = F.normalize(noise - (noise * mean).sum(1, keepdim=True) * mean, dim=1)
    return F.normalize(cosine * mean + (1 - cosine.square()).clamp_min(0).sqrt() * tangent, dim=1)


def laplace_in_box(center: Tensor, generator: SampleGenerator, *, scale: float) -> Tensor:
    """[B, D] in the unit box with density proportional to ``exp(-|z - center|_1 / scale)``.

    Coordinates are independent, so each is drawn from its own truncated distribution, by the
    inverse of its distribution function: what rejecting draws outside the box gives.
    """
    middle = center.double()
    low, high = (_laplace((edge - middle) / scale) for edge in (0.0, 1.0))
    share = low + (high - low) * generator.uniform(center.shape[1]).double()
    side = torch.where(share < 0.5, (2 * share).log(), -(2 - 2 * share).log())
    return (middle + scale * side).clamp(0, 1).to(center.dtype)


def normal_in_box(center: Tensor, generator: SampleGenerator, *, scale: float) -> Tensor:
    """[B, D] in the unit box with density proportional to ``exp(-|z - center|^2 / 2 scale^2)``.

    Drawn as in `laplace_in_box`.
    """
    middle = center.double()
    low, high = (torch.special.ndtr((edge - middle) / scale) for edge in (0.0, 1.0))
    share = low + (high - low) * generator.uniform(center.shape[1]).double()
    return (middle + scale * torch.special.ndtri(share)).clamp(0, 1).to(center.dtype)


def _laplace(x: Tensor) -> Tensor:
    """The distribution function of the Laplace distribution of scale 1."""
    tail = (-x.abs()).exp() / 2
    return torch.where(x < 0, tail, 1 - tail)
