"""LatentTree: binary variables on a tree, of which only the leaves are seen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unlabeled.data.generated import Generated

if TYPE_CHECKING:
    from unlabeled.views.generator import SampleGenerator


@dataclass(frozen=True, kw_only=True)
class TreeSpec:
    """What an encoder of the leaves takes: ``2^depth`` values in {0, 1}.

    ``lower`` bounds the polarities of the edges from below, which follow from ``seed``. Nodes are
    numbered level by level from the root: level l begins at ``2^l - 1``.
    """

    depth: int
    lower: float
    seed: int

    def __post_init__(self) -> None:
        if self.depth < 1 or not 0 <= self.lower <= 1:
            raise ValueError(
                f"depth {self.depth}, lower {self.lower}: give a depth of at least 1 and a bound "
                "in [0, 1]"
            )


@lru_cache(maxsize=32)
def polarities(spec: TreeSpec) -> tuple[Tensor, ...]:
    """[2^l] of each level l = 1 .. depth: rho of the edge to each node, in [-1, 1].

    ``|rho|`` is uniform in [lower, 1], its sign a coin.
    """
    generator = torch.Generator().manual_seed(spec.seed)
    found = []
    for level in range(1, spec.depth + 1):
        draw = torch.rand(2, 2**level, generator=generator)
        size = spec.lower + (1 - spec.lower) * draw[0]
        found.append(torch.where(draw[1] < 0.5, size, -size))
    return tuple(found)


def grown(root: Tensor, generator: SampleGenerator, spec: TreeSpec) -> Tensor:
    """[B] in {-1, 1} -> [B, 2^(depth + 1) - 1]: all nodes, each drawn given its parent.

    ``P(child = parent) = (1 + rho) / 2`` (2010.00578, section 5).
    """
    levels = [root[:, None]]
    for rho in polarities(spec):
        parent = levels[-1].repeat_interleave(2, dim=1)
        same = generator.uniform(len(rho)) < (1 + rho) / 2
        levels.append(torch.where(same, parent, -parent))
    return torch.cat(levels, 1)


def leaves(nodes: Tensor, spec: TreeSpec) -> Tensor:
    """[B, 2^depth] in {0, 1}: what is seen."""
    return (nodes[:, -(2**spec.depth) :] + 1) / 2


def root_of(generator: SampleGenerator) -> Tensor:
    """[B] in {-1, 1}, a fair coin each."""
    coin: Tensor = generator.uniform(1)[:, 0] < 0.5
    return torch.where(coin, 1.0, -1.0)


@dataclass(frozen=True, kw_only=True)
class LatentTree(Generated):
    """Leaves of a hierarchical latent tree; batches also hold all nodes, as ``factors``.

    Understanding Self-supervised Learning with Dual Deep Networks, 2010.00578, section 5. A sample
    follows from its place alone; nothing is kept.

    Args:
        depth: levels below the root.
        lower: smallest polarity of an edge; 1 for children that follow their parents.
        samples: of "train"; it says how long an epoch is, since views draw trees of their own.
        test_samples: of "test".
        seed: of the polarities and the samples.
    """

    depth: int = 4
    lower: float = 0.8
    samples: int = 12_800
    test_samples: int = 4096
    seed: int = 0

    @property
    def name(self) -> str:
        """``latent-tree-4``."""
        return f"latent-tree-{self.depth}"

    def spec(self) -> TreeSpec:
        """Return all but the numbers of samples."""
        return TreeSpec(depth=self.depth, lower=self.lower, seed=self.seed)

    def draw(self, generator: SampleGenerator) -> tuple[Tensor, Tensor]:
        """Return the leaves [B, 2^depth] and all nodes [B, 2^(depth + 1) - 1]."""
        nodes = grown(root_of(generator), generator, self.spec())
        return leaves(nodes, self.spec()), nodes
