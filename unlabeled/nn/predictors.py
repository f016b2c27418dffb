"""Predictors of future latents from a context, one linear map a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unlabeled.losses.prediction import future_nce

if TYPE_CHECKING:
    from jaxtyping import Float


class StepPredictors(nn.Module):
    """``W_k c_t`` for each of several steps k (CPC, arXiv:1807.03748, eq. 3).

    CPC v2 (arXiv:1905.09272, appendix A) adds a bias and multiplies by 0.1.

    Args:
        context_dim: width of c.
        dim: width of the latents z.
        steps: the k, each at least 1.
        bias: whether each map has one.
        scale: multiplies the predictions.

    Raises:
        ValueError: no step, or one below 1.
    """

    def __init__(
        self,
        context_dim: int,
        dim: int,
        *,
        steps: Sequence[int],
        bias: bool = False,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        if not steps or min(steps) < 1:
            raise ValueError(
                f"steps are {tuple(steps)}: give steps of at least 1 that fit into the grid or "
                "the sequence"
            )
        self.steps, self.scale = tuple(steps), scale
        self.maps = nn.ModuleList(nn.Conv2d(context_dim, dim, 1, bias=bias) for _ in steps)

    def forward(
        self, context: Float[Tensor, "B C T S"], latent: Float[Tensor, "B D T S"]
    ) -> Float[Tensor, " K"]:
        """InfoNCE of each step, the mean over the places that have a target."""
        return torch.stack(
            [
                future_nce(self.scale * predict(context[:, :, :-step]), latent, step=step)
                for step, predict in zip(self.steps, self.maps, strict=True)
            ]
        )
