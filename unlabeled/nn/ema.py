"""Ema: a teacher that is the moving average of a student."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


class Ema(nn.Module):
    """A copy of ``module`` without gradient: ``teacher <- m teacher + (1 - m) student``.

    MoCo (arXiv:1911.05722, eq. 2), BYOL (arXiv:2006.07733, eq. 1). The average covers parameters
    only: buffers are copied once, then the teacher's own (its batch norms see its own batches), as
    in both official codes. Train or eval mode follows the parent, as for any module; the papers
    run the teacher in train mode.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = deepcopy(module).requires_grad_(False)

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """Call the teacher without gradient."""
        return self.module(*inputs)

    @torch.no_grad()
    def update(self, student: nn.Module, *, momentum: float) -> None:
        """Move the teacher towards ``student``, bare or wrapped (DDP, compile), by 1 - momentum.

        Raises:
            ValueError: the momentum is outside [0, 1], or the student has other parameters.
        """
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum is {momentum}: give a value from 0 to 1")
        mine: list[Tensor] = list(self.module.parameters())
        theirs: list[Tensor] = list(student.parameters())
        if [p.shape for p in mine] != [p.shape for p in theirs]:
            raise ValueError(
                f"the student has {len(theirs)} parameters of other shapes than the teacher's "
                f"{len(mine)}: pass the module that the teacher was copied from"
            )
        torch._foreach_lerp_(mine, theirs, 1 - momentum)

    @torch.no_grad()
    def copy_buffers(self, student: nn.Module) -> None:
        """Take over the student's buffers: for an average that sees no batches of its own."""
        for mine, theirs in zip(self.module.buffers(), student.buffers(), strict=True):
            mine.copy_(theirs)
