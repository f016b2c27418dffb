"""Memory banks: a feature for each sample of the data, and the contrasts that are read off them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.losses.nce import nce, positive_first
from unlabeled.ops.gather import all_sum, gather, world_size
from unlabeled.ops.precision import autocast_off, upcast
from unlabeled.views.generator import SampleGenerator

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class MemoryBank(nn.Module):
    """A feature of each training sample as it was last seen (NPID, CVPR 2018, sec. 3.1).

    ``rows`` [samples, dim] starts uniform in +-1 / sqrt(dim / 3), so about of unit length, as the
    codes of NPID and CMC (arXiv:1906.05849) have it. All ranks hold the whole bank.

    Raises:
        ValueError: a size below 1.
    """

    rows: Tensor

    def __init__(self, samples: int, dim: int) -> None:
        super().__init__()
        if samples < 1 or dim < 1:
            raise ValueError(f"bank of {samples} rows x {dim}: give sizes of at least 1")
        bound = 1 / math.sqrt(dim / 3)
        self.register_buffer("rows", torch.empty(samples, dim).uniform_(-bound, bound))

    def scores(
        self, z: Float[Tensor, "B D"], places: Int[Tensor, "B K"], *, temperature: float
    ) -> Float[Tensor, "B K"]:
        """``<rows[places_ik], z_i> / temperature``; the bank gets no gradient."""
        with autocast_off(z):
            z = upcast(z)
            found = self.rows[places].to(z.dtype)
            return torch.bmm(found, z[:, :, None])[:, :, 0] / temperature

    def positive_and_negatives(
        self, index: Int[Tensor, " B"], *, count: int, step: int
    ) -> Int[Tensor, "B K+1"]:
        """Each sample's own place, then ``count`` places of the whole bank with replacement.

        The places follow from the step and the sample, whatever batch or rank it is on.

        Raises:
            ValueError: a sample that the bank has no row for.
        """
        self._check(index)
        drawn = SampleGenerator(step, 0, index).integers(count, high=len(self.rows))
        return torch.cat([index[:, None], drawn], 1)

    @torch.no_grad()
    def update(self, index: Int[Tensor, " B"], z: Float[Tensor, "B D"], *, momentum: float) -> None:
        """``rows[i] <- normalize(momentum rows[i] + (1 - momentum) z_i)``, for all ranks' samples.

        Raises:
            ValueError: a sample that the bank has no row for.
        """
        self._check(index)
        index, z = gather(index), gather(z.detach()).to(self.rows.dtype)
        self.rows[index] = F.normalize(torch.lerp(z, self.rows[index], momentum), dim=1)

    def _check(self, index: Tensor) -> None:
        if len(index) and int(index.max()) >= len(self.rows):
            raise ValueError(
                f"bank has {len(self.rows)} rows, the data a sample {int(index.max())}: pass "
                "method.samples=N, the number of training samples"
            )


class SoftmaxContrast(nn.Module):
    """Cross-entropy of the positive among all scores: `losses.nce.positive_first`."""

    def __init__(self, samples: int) -> None:
        super().__init__()

    def forward(self, scores: Float[Tensor, "B K+1"]) -> Float[Tensor, ""]:
        """[B, 1 + K], the positive first -> scalar."""
        return positive_first(scores)


class NceContrast(nn.Module):
    """Noise-contrastive estimation, with Z estimated once: `losses.nce.nce`.

    ``Z = samples * mean exp(scores)`` of the first batch, over all ranks; a buffer, 0 before.
    """

    partition: Tensor

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.samples = samples
        self.register_buffer("partition", torch.zeros(()))

    def forward(self, scores: Float[Tensor, "B K+1"]) -> Float[Tensor, ""]:
        """[B, 1 + K], the positive first -> scalar."""
        if self.partition == 0:
            mean = all_sum(upcast(scores.detach()).exp().mean()) / world_size()
            self.partition.copy_(self.samples * mean)
        return nce(scores, samples=self.samples, partition=self.partition)
