"""Full-precision islands: logits and losses stay in float32 under mixed precision."""

from __future__ import annotations

import torch
from torch import Tensor


def autocast_off(like: Tensor) -> torch.autocast:
    """Return a context without autocast on the device of ``like``."""
    return torch.autocast(like.device.type, enabled=False)


def upcast(x: Tensor) -> Tensor:
    """Float16 and bfloat16 become float32; float32 and float64 stay as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
