"""Queues of past features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.ops.gather import gather

if TYPE_CHECKING:
    from jaxtyping import Float


class Queue(nn.Module):
    """The last keys of all ranks, first in, first out (MoCo, arXiv:1911.05722, sec. 3.1).

    ``rows`` [rows, dim] starts as unit-length Gaussian directions; ``pointer`` is the place of the
    oldest row, which the next key overwrites. Push after the loss was computed, so that no key is
    its own negative.

    Raises:
        ValueError: a size below 1.
    """

    rows: Tensor
    pointer: Tensor

    def __init__(self, rows: int, dim: int) -> None:
        super().__init__()
        if rows < 1 or dim < 1:
            raise ValueError(f"queue of {rows} rows x {dim}: give sizes of at least 1")
        self.register_buffer("rows", F.normalize(torch.randn(rows, dim), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys: Float[Tensor, "B D"]) -> None:
        """Overwrite the oldest rows by the keys of all ranks; exact for any number of keys."""
        keys = gather(keys.detach()).to(self.rows.dtype)
        size, pushed = len(self.rows), len(keys)
        skipped = max(0, pushed - size)
        places = torch.arange(skipped, pushed, device=keys.device)
        self.rows.index_copy_(0, (self.pointer + places) % size, keys[skipped:])
        self.pointer.copy_((self.pointer + pushed) % size)


class FeatureQueue(nn.Module):
    """The last features, a queue a crop that assigns (SwAV, arXiv:2006.09882, app. A).

    Empty at first; the newest rows stand in front. Pushed with the features of all ranks, every
    rank holds the whole queue, so that one rank's checkpoint has all of it.

    Raises:
        ValueError: a size below 1.
    """

    features: Tensor
    count: Tensor

    def __init__(self, crops: int, length: int, dim: int) -> None:
        super().__init__()
        if min(crops, length, dim) < 1:
            raise ValueError(f"queue of {crops} x {length} x {dim}: give sizes of at least 1")
        self.register_buffer("features", torch.zeros(crops, length, dim))
        self.register_buffer("count", torch.zeros(crops, dtype=torch.int64))

    @property
    def full(self) -> bool:
        """Whether every crop's queue has been filled."""
        return int(self.count.min()) >= self.features.shape[1]

    @torch.no_grad()
    def push(self, crop_index: int, z: Float[Tensor, "B D"]) -> None:
        """Put ``z`` in front; the oldest rows fall out."""
        queue = self.features[crop_index]
        queue.copy_(torch.cat([z.detach().to(queue.dtype), queue])[: len(queue)])
        self.count[crop_index] += len(z)

    def rows(self, crop_index: int) -> Float[Tensor, "L D"]:
        """[length, dim], the newest first; zeros where nothing has been pushed yet."""
        return self.features[crop_index]
