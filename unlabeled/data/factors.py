"""Factors: data that are generated from known factors by a known, invertible network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.generated import Generated

if TYPE_CHECKING:
    from unlabeled.views.generator import SampleGenerator

CANDIDATES = 25_000
SLOPE = 0.2


@dataclass(frozen=True)
class Sphere:
    """Unit vectors."""

    def uniform(self, generator: SampleGenerator, dim: int) -> Tensor:
        """[B, dim], uniform on the sphere."""
        return F.normalize(generator.normal(dim), dim=1)


@dataclass(frozen=True)
class Box:
    """Vectors whose coordinates lie between 0 and 1."""

    def uniform(self, generator: SampleGenerator, dim: int) -> Tensor:
        """[B, dim], uniform in the box."""
        return generator.uniform(dim)


@dataclass(frozen=True, kw_only=True)
class FactorSpec:
    """What an encoder of generated vectors takes, and how they come about: ``x = g(z)``.

    ``dim`` is the width of z and of x, ``space`` where z lies; `mix` is g, a network of
    ``layers`` square matrices that follow from ``seed``.
    """

    dim: int
    space: Sphere | Box
    layers: int
    seed: int

    def __post_init__(self) -> None:
        if self.dim < 2 or self.layers < 1:
            raise ValueError(f"dim is {self.dim}, layers {self.layers}: give 2 and 1 or more")


@dataclass(frozen=True, kw_only=True)
class Factors(Generated):
    """Vectors ``x = g(z)`` with z uniform in a space; batches also hold z, as ``factors``.

    CL-ICA, arXiv:2102.08850, section 4.1. A sample follows from its place alone; nothing is kept.

    Args:
        dim: width of z and of x.
        space: where z lies.
        layers: of g; one is a linear map.
        samples: of "train"; it says how long an epoch is, since views draw factors of their own.
        test_samples: of "test".
        seed: of g and z.
    """

    dim: int = 10
    space: Sphere | Box = Sphere()
    layers: int = 3
    samples: int = 50_000
    test_samples: int = 4096
    seed: int = 0

    @property
    def name(self) -> str:
        """``factors-sphere-10``."""
        return f"factors-{type(self.space).__name__.lower()}-{self.dim}"

    def spec(self) -> FactorSpec:
        """Return all but the numbers of samples."""
        return FactorSpec(dim=self.dim, space=self.space, layers=self.layers, seed=self.seed)

    def draw(self, generator: SampleGenerator) -> tuple[Tensor, Tensor]:
        """Return x [B, dim] and z [B, dim]."""
        factors = self.space.uniform(generator, self.dim)
        return mix(factors, self.spec()), factors


def mix(factors: Tensor, spec: FactorSpec) -> Tensor:
    """[B, dim] -> [B, dim]: g, matrices with leaky ReLUs of slope 0.2 between.

    Each matrix is the one with the smallest condition number of 25,000 with entries uniform in
    (-1, 1) and columns of unit length (section A.2.1, official code).
    """
    x = factors
    for number, weight in enumerate(mixing_weights(spec.dim, spec.layers, spec.seed)):
        x = F.leaky_relu(x, SLOPE) if number else x
        x = x @ weight.to(x).T
    return x


@lru_cache(maxsize=8)
def mixing_weights(dim: int, layers: int, seed: int) -> tuple[Tensor, ...]:
    """Return the matrices of `mix`, [dim, dim] each, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    weights = []
    for _ in range(layers):
        drawn = torch.rand(CANDIDATES, dim, dim, generator=generator, device="cpu") * 2 - 1
        drawn = F.normalize(drawn, dim=1)
        values = torch.linalg.svdvals(drawn)
        weights.append(drawn[(values[:, 0] / values[:, -1]).argmin()].clone())
    return tuple(weights)
