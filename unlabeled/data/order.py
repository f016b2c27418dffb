"""In what order the samples of an epoch are read: pure functions of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def permutation(samples: int, *, seed: int, epoch: int) -> Tensor:
    """[N] int64: all samples in an order of the epoch's own, each place as likely as any other."""
    return torch.randperm(samples, generator=_generator(seed, epoch))


def windowed(sizes: Sequence[int], *, window: int, seed: int, epoch: int) -> Tensor:
    """[N] int64: shards in random order, samples shuffled over a window that slides along them.

    The j-th of n samples of the shard at place r of the epoch (`permutation` of the shards) gets
    the key r + (j + 1/2) / n + window u, with u uniform in [0, 1), and samples are read by rising
    key. So what is read at one moment comes from at most window + 1 shards, a new shard is needed
    once in a while rather than many at once, and no shard is needed again once it is through.
    Up to ``window`` shards are shuffled as a whole.

    Args:
        sizes: samples of each shard, numbered shard by shard.
        window: how many shards are mixed, 1 or more.
        seed: of the run.
        epoch: which pass over the data.
    """
    if window < 1:
        raise ValueError(f"window is {window}: mix 1 shard or more")
    total = sum(sizes)
    if len(sizes) <= window:
        return permutation(total, seed=seed, epoch=epoch)
    generator = _generator(seed, epoch)
    count = torch.tensor(sizes)
    rank = torch.randperm(len(sizes), generator=generator).argsort()
    shard = torch.repeat_interleave(torch.arange(len(sizes)), count)
    within = torch.arange(total) - (count.cumsum(0) - count)[shard]
    key = rank[shard] + (within + 0.5) / count[shard].double()
    key += window * torch.rand(total, generator=generator, dtype=torch.float64)
    return key.argsort(stable=True)


def spread(count: int, most: int) -> list[int]:
    """Return at most ``most`` places spread evenly over ``range(count)``."""
    if count <= most:
        return list(range(count))
    return [place * count // most for place in range(most)]


def _generator(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
