"""Batch normalization over parts of a batch, or over the batches of all ranks.

Conversions change the class of a layer in place: parameters, buffers, hooks, aliases and
state-dict keys stay what they were, and `plain_batchnorm` undoes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from unlabeled.ops.gather import gather, world_size
from unlabeled.ops.precision import autocast_off, upcast

if TYPE_CHECKING:
    from jaxtyping import Float

Module = TypeVar("Module", bound=nn.Module)

_PLAIN: dict[int, type[_BatchNorm]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class SplitBatchNorm2d(nn.BatchNorm2d):
    """Normalize each of ``splits`` contiguous chunks of the batch by its own statistics.

    Stands in for one batch norm a GPU: with a shuffled batch of keys it keeps them from leaking
    which sample they belong to (MoCo, arXiv:1911.05722, sec. 3.3; the authors' CIFAR demo).
    Running statistics move by the mean over chunks; eval mode is plain batch norm.

    Raises:
        ValueError: ``splits`` is below 1, or does not divide the batch.
    """

    plain: type[_BatchNorm]
    splits: int

    def __init__(self, features: int, splits: int) -> None:
        super().__init__(features)
        self.plain, self.splits = nn.BatchNorm2d, _checked(splits)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """[B, C, H, W] -> [B, C, H, W]."""
        if not self.training:
            return _rest(self, super().forward(x))
        if len(x) % self.splits:
            raise ValueError(
                f"batch of {len(x)} does not split into {self.splits}: choose a batch size that "
                f"is a multiple of {self.splits}, and drop the last batch"
            )
        factor = _step_momentum(self)
        running = None
        if self.running_mean is not None and self.running_var is not None:
            now = torch.stack([self.running_mean, self.running_var])
            running = now.repeat(self.splits, 1, 1)  # each chunk moves its own copy
        chunks = []
        for place, chunk in enumerate(x.chunk(self.splits)):
            mean, variance = (None, None) if running is None else running[place]
            chunks.append(
                F.batch_norm(chunk, mean, variance, self.weight, self.bias, True, factor, self.eps)
            )
        if self.running_mean is not None and self.running_var is not None and running is not None:
            self.running_mean.copy_(running[:, 0].mean(0))
            self.running_var.copy_(running[:, 1].mean(0))
        return _rest(self, torch.cat(chunks))


class GlobalBatchNorm(_BatchNorm):
    """Batch norm whose statistics are those of the joined batch of all ranks, with gradient.

    Unlike torch's SyncBatchNorm it also works on CPU. One exchange of per-rank means and
    squared deviations a pass (Chan et al. 1983, eq. 2.1); ranks may hold different numbers of
    samples. On one rank it is plain batch norm. ``dims`` is the 1, 2 or 3 of ``BatchNorm{dims}d``.

    Raises:
        ValueError: ``dims`` is not 1, 2 or 3.
    """

    plain: type[_BatchNorm]

    def __init__(
        self, features: int, *, dims: int = 2, eps: float = 1e-5, momentum: float | None = 0.1
    ) -> None:
        super().__init__(features, eps=eps, momentum=momentum)
        if dims not in _PLAIN:
            raise ValueError(f"dims is {dims}: give 1, 2 or 3")
        self.plain = _PLAIN[dims]

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() < 2 or x.shape[1] != self.num_features:
            raise ValueError(f"input is {list(x.shape)}: give [B, {self.num_features}, ...]")

    def forward(self, x: Float[Tensor, "B C *rest"]) -> Float[Tensor, "B C *rest"]:
        """[B, C, ...] -> [B, C, ...]."""
        if not self.training or world_size() == 1:
            return _rest(self, super().forward(x))
        self._check_input_dim(x)
        factor = _step_momentum(self)
        with autocast_off(x):
            full = upcast(x)
            mean, variance, count = _moments(full)
            if self.running_mean is not None and self.running_var is not None:
                unbiased = variance.detach() * (count / (count - 1))
                self.running_mean.lerp_(mean.detach().to(self.running_mean.dtype), factor)
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), factor)
            scale = (variance + self.eps).rsqrt()
            if self.weight is not None:
                scale = scale * self.weight
            shape = [1, -1] + [1] * (x.dim() - 2)
            y = (full - mean.view(shape)) * scale.view(shape)
            if self.bias is not None:
                y = y + self.bias.view(shape)
        return _rest(self, y.to(x.dtype))


def split_batchnorm(module: Module, *, splits: int) -> Module:
    """Turn every BatchNorm2d in ``module`` into a SplitBatchNorm2d, in place.

    Raises:
        ValueError: ``splits`` is below 1, or a layer is a batch norm of a kind not known here.
    """
    _checked(splits)
    for norm in module.modules():
        if _is_plain(norm) and isinstance(norm, nn.BatchNorm2d):
            norm.plain = type(norm)  # type: ignore[assignment]
            norm.splits = splits  # type: ignore[assignment]
            norm.__class__ = SplitBatchNorm2d
    return module


def global_batchnorm(module: Module) -> Module:
    """Turn every BatchNorm1d, 2d and 3d into a GlobalBatchNorm, in place; not split ones.

    Raises:
        ValueError: a layer is a batch norm of a kind that is not known here.
    """
    for norm in module.modules():
        if _is_plain(norm):
            norm.plain = type(norm)  # type: ignore[assignment]
            norm.__class__ = GlobalBatchNorm
    return module


def plain_batchnorm(module: Module) -> Module:
    """Turn split and global batch norms back into what they were, in place, as for export."""
    for norm in module.modules():
        if isinstance(norm, SplitBatchNorm2d):
            del norm.splits
        if isinstance(norm, SplitBatchNorm2d | GlobalBatchNorm):
            plain = norm.plain
            del norm.plain
            norm.__class__ = plain  # type: ignore[assignment]
    return module


def _is_plain(layer: nn.Module) -> bool:
    if not isinstance(layer, _BatchNorm):
        return False
    if type(layer) in _PLAIN.values():
        return True
    if isinstance(layer, SplitBatchNorm2d | GlobalBatchNorm | nn.SyncBatchNorm):
        return False
    # timm's BatchNormAct2d: batch norm, then its two children, in this order
    if type(layer).__mro__[1] is nn.BatchNorm2d and [
        name for name, _ in layer.named_children()
    ] == ["drop", "act"]:
        return True
    raise ValueError(
        f"{type(layer).__module__}.{type(layer).__name__} is a batch norm of its own kind that "
        "cannot be converted: build the encoder with torch.nn.BatchNorm, or turn "
        "sync_batchnorm off"
    )


def _rest(norm: nn.Module, y: Tensor) -> Tensor:
    """Apply what a fused layer such as timm's BatchNormAct2d does after its normalization."""
    for child in norm.children():
        y = child(y)
    return y


def _moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance of each channel over all ranks, and the number of values."""
    dims = [dim for dim in range(x.dim()) if dim != 1]
    variance, mean = torch.var_mean(x, dims, correction=0)
    count = torch.full_like(mean, x.numel() / x.shape[1])
    counts, means, variances = gather(torch.stack([count, mean, variance])[None]).unbind(1)
    counts = counts.detach()
    shares = counts / counts.sum(0)
    mean = (shares * means).sum(0)
    variance = (shares * (variances + (means - mean).square())).sum(0)
    return mean, variance, counts.sum(0)


def _step_momentum(norm: _BatchNorm) -> float:
    """Count the batch and return the weight that it has in the running statistics."""
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if norm.momentum is None:
            return 1.0 / float(norm.num_batches_tracked)
    return 0.0 if norm.momentum is None else norm.momentum


def _checked(splits: int) -> int:
    if splits < 1:
        raise ValueError(f"splits is {splits}: give at least 1")
    return splits
