"""Randomness of views: a counter-based generator keyed by (seed, epoch, sample index).

What a sample gets depends on nothing else: not on the batch that it is in, the number of data
workers or ranks, or on whether the run was resumed.
"""

from __future__ import annotations

from copy import copy
from functools import lru_cache

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB


def _mix(state: Tensor) -> Tensor:
    """SplitMix64's finalizer (Steele et al. 2014); int64 arithmetic wraps, shifts are logical."""
    state = (state >> 30).bitwise_and_(0x3FFFFFFFF).bitwise_xor_(state).mul_(_MIX1)
    state = (state >> 27).bitwise_and_(0x1FFFFFFFFF).bitwise_xor_(state).mul_(_MIX2)
    return (state >> 31).bitwise_and_(0x1FFFFFFFF).bitwise_xor_(state)


@lru_cache(maxsize=64)
def _run_key(seed: int, epoch: int) -> int:
    seeds = torch.tensor([seed, epoch], dtype=torch.int64)
    return int(_mix(_mix(seeds[0] + _GOLDEN) + seeds[1] * _GOLDEN + 1))


class SampleGenerator:
    """Draws one independent stream of random numbers for each sample of a batch.

    Every call advances a counter that all samples share, so the order of the calls matters and
    the batch does not.

    Args:
        seed: the run's seed.
        epoch: which pass over the data this is.
        index: [B] int64, the samples' places in the data set.
    """

    def __init__(self, seed: int, epoch: int, index: Tensor) -> None:
        key = _run_key(seed, epoch)
        self._key = _mix(_mix(index.long() * _GOLDEN + key))  # [B]
        self._count = 0

    def __len__(self) -> int:
        return len(self._key)

    @property
    def device(self) -> torch.device:
        """Where the numbers are made."""
        return self._key.device

    def _bits(self, shape: tuple[int, ...]) -> Tensor:
        draws = torch.Size(shape).numel()
        slots = torch.arange(self._count, self._count + draws, device=self.device)
        self._count += draws
        bits = _mix(self._key[:, None] + (slots + 1) * _GOLDEN)
        return bits.view(len(self), *shape)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """[B, *shape] float32, uniform in [low, high)."""
        unit = (self._bits(shape) >> 40).bitwise_and_(0xFFFFFF).float().mul_(2.0**-24)
        return unit if (low, high) == (0.0, 1.0) else low + (high - low) * unit

    def normal(self, *shape: int) -> Tensor:
        """[B, *shape] float32, standard normal (Box-Muller)."""
        radius, angle = 1.0 - self.uniform(*shape), self.uniform(*shape)
        return (-2 * radius.log()).sqrt() * torch.cos(2 * torch.pi * angle)

    def integers(self, *shape: int, high: int) -> Tensor:
        """[B, *shape] int64, uniform in {0, ..., high - 1}; high well below 2**24."""
        return (self.uniform(*shape).double() * high).long()

    def coin(self, probability: float) -> Tensor:
        """[B] bool, true with the given probability."""
        return self.uniform() < probability

    def permutation(self, length: int) -> Tensor:
        """[B, length] int64, a random order of 0 .. length - 1 for each sample."""
        return self.uniform(length).argsort(1)

    def split(self, count: int) -> SampleGenerator:
        """Return a generator of ``count`` streams a sample, [B * count], sample by sample.

        For views that draw for parts of a sample, such as patches.
        """
        parts = copy(self)
        parts._key, parts._count = _mix(self._bits((count,))).flatten(), 0
        return parts
