"""A vision transformer with a fixed sine-cosine position embedding, as MoCo v3 trains it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.backbone import Origin
from unlabeled.encoders.from_timm import TimmEncoder

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def sincos_vit(
    spec: ImageSpec,
    *,
    dim: int,
    depth: int,
    heads: int,
    patch: int,
    frozen_patches: bool = True,
    batchnorm: bool = False,
) -> TimmEncoder:
    """Build timm's VisionTransformer with a class token, initialized as MoCo v3's.

    The position embedding is fixed, and so is the random patch projection: the gradient of this
    first layer is where training becomes unstable (arXiv:2104.02057, section 4.2). Weights are
    Xavier-uniform, with queries, keys and values as three matrices; biases 0; the class token is
    N(0, 1e-6^2) (section 3 and the authors' code). The output is the class token.

    Args:
        spec: the input.
        dim: width of the tokens, a multiple of 4 and of ``heads``.
        depth: blocks.
        heads: attention heads of a block (12 in the paper's ViT-S too, section 5, table 2).
        patch: side of a patch in pixels; it divides the image's side.
        frozen_patches: whether the patch projection keeps its random weights.
        batchnorm: normalize over batch and positions, not over channels, before each block's MLP:
            ViT-BN (section 5).

    Raises:
        ValueError: sizes that do not divide.
    """
    if spec.size % patch or dim % heads or dim % 4:
        raise ValueError(
            f"size {spec.size}, patch {patch}, dim {dim}, heads {heads}: give a patch that divides "
            "the size, and a dim that 4 and heads divide"
        )
    from timm.models.vision_transformer import VisionTransformer

    sizes = {
        "img_size": spec.size, "patch_size": patch, "embed_dim": dim, "depth": depth,
        "num_heads": heads,
    }  # fmt: skip
    arguments: dict[str, Any] = {"num_classes": 0, "in_chans": spec.channels, **sizes}
    net: Any = VisionTransformer(dynamic_img_size=True, **arguments)
    if batchnorm:
        for block in net.blocks:
            block.norm2 = TokenBatchNorm(dim)
    _initialize(net, channels=spec.channels, patch=patch)
    grid = spec.size // patch
    with torch.no_grad():
        net.pos_embed[0, 1:] = sincos_positions(grid, dim=dim)
        net.pos_embed[0, 0] = 0
    net.pos_embed.requires_grad_(False)
    if frozen_patches:
        net.patch_embed.proj.requires_grad_(False)
    made = Origin(name="timm/vit_base_patch16_224", arguments=arguments)
    return TimmEncoder(net, rank=3, spec=spec, made=made)


class TokenBatchNorm(nn.Module):
    """Batch norm of tokens: each channel over all positions of all samples.

    It holds the norm and does not inherit it, so that synchronized statistics find it.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """[B, N, dim]."""
        return self.norm(x.flatten(0, 1)).view_as(x)


def sincos_positions(
    grid: int, *, dim: int, temperature: float = 10000.0
) -> Float[Tensor, "N dim"]:
    """[grid^2, dim]: ``[sin(r w), cos(r w), sin(c w), cos(c w)]`` of each row r and column c.

    ``w_i = temperature^(-4 i / dim)``, i from 0 to dim / 4 - 1; positions in row order (MoCo v3,
    arXiv:2104.02057, authors' code; the embedding of Attention Is All You Need in two dimensions).
    """
    frequencies = temperature ** (-torch.arange(dim // 4, dtype=torch.float64) * 4 / dim)
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * frequencies
    waves = torch.cat([angles.sin(), angles.cos()], 1).float()
    rows, columns = waves[:, None].expand(-1, grid, -1), waves[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], 2).flatten(0, 1)


def _initialize(net: nn.Module, *, channels: int, patch: int) -> None:
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear):
            if name.endswith("qkv"):  # three matrices side by side: each has its own fan
                bound = math.sqrt(6 / (module.out_features // 3 + module.in_features))
                nn.init.uniform_(module.weight, -bound, bound)
            else:
                nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    projection, token = net.get_submodule("patch_embed.proj"), net.get_parameter("cls_token")
    if isinstance(projection, nn.Conv2d) and projection.bias is not None:
        bound = math.sqrt(6 / (channels * patch**2 + projection.out_channels))
        nn.init.uniform_(projection.weight, -bound, bound)
        nn.init.zeros_(projection.bias)
    nn.init.normal_(token, std=1e-6)
