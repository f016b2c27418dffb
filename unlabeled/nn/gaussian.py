"""A head that predicts a Gaussian with a diagonal covariance, and draws from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.ops.precision import autocast_off, upcast

if TYPE_CHECKING:
    from jaxtyping import Float


class GaussianHead(nn.Module):
    """Features to ``N(mu, diag(sigma^2))`` with ``sigma = softplus(raw)``.

    Reparametrised, so that gradients reach both (Kingma and Welling, arXiv:1312.6114).

    Args:
        body: a network from features to ``body.dim`` numbers.
        dim: of the latents.
    """

    def __init__(self, body: nn.Module, dim: int) -> None:
        super().__init__()
        assert isinstance(body.dim, int)
        self.body, self.dim = body, dim
        self.linear = nn.Linear(body.dim, 2 * dim)

    def forward(self, h: Float[Tensor, "B H"], noise: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """``mu + sigma noise``: [B, H] features and [B, D] standard normal numbers -> [B, D]."""
        mean, deviation = self.parameters_of(h)
        return mean + deviation * noise

    def parameters_of(
        self, h: Float[Tensor, "B H"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        """``mu, sigma``, [B, D] each, in float32 at least."""
        found = self.linear(self.body(h))
        with autocast_off(found):
            mean, raw = upcast(found).chunk(2, 1)
            return mean, F.softplus(raw)
