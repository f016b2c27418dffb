"""A vision transformer of any size, with the attention of its class token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.backbone import Origin
from unlabeled.encoders.from_timm import TimmEncoder

if TYPE_CHECKING:
    from jaxtyping import Float


class VitEncoder(TimmEncoder):
    """timm's VisionTransformer; `vit` builds it."""

    def attention(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B heads N"]:
        """Attention of the class token in the last block, over all N tokens, itself first.

        ``softmax(q k^T / sqrt(d))``, of DINO's figures; rows sum to 1.
        """
        block: Any = self.net.get_submodule("blocks")[-1].attn  # type: ignore[index]
        kept: list[Tensor] = []
        hook = block.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
        try:
            self.features(x)
        finally:
            hook.remove()
        tokens = kept[0]
        batch, count, _ = tokens.shape
        qkv = block.qkv(tokens).view(batch, count, 3, block.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k = block.q_norm(qkv[0, :, :, :1]), block.k_norm(qkv[1])
        return (q.float() * block.scale @ k.float().mT).softmax(-1)[:, :, 0]


def vit(
    spec: ImageSpec,
    *,
    dim: int,
    depth: int,
    heads: int,
    patch: int,
    drop_path: float = 0.0,
) -> VitEncoder:
    """Build timm's VisionTransformer with a class token and learned positions.

    Positions are interpolated for images of another size (multi-crop). The output is the class
    token after the last norm.

    Args:
        spec: the input.
        dim: width of the tokens, a multiple of ``heads``.
        depth: blocks.
        heads: attention heads of a block.
        patch: side of a patch in pixels; it divides the image's side.
        drop_path: stochastic depth in training, rising linearly to this over the blocks.

    Raises:
        ValueError: sizes that do not divide.
    """
    if spec.size % patch or dim % heads:
        raise ValueError(
            f"size {spec.size}, patch {patch}, dim {dim}, heads {heads}: give a patch that divides "
            "the size, and a dim that heads divide"
        )
    from timm.models.vision_transformer import VisionTransformer

    arguments: dict[str, Any] = {
        "num_classes": 0, "in_chans": spec.channels, "img_size": spec.size, "patch_size": patch,
        "embed_dim": dim, "depth": depth, "num_heads": heads,
    }  # fmt: skip
    net = VisionTransformer(dynamic_img_size=True, drop_path_rate=drop_path, **arguments)
    made = Origin(name="timm/vit_base_patch16_224", arguments=arguments)
    return VitEncoder(net, rank=3, spec=spec, made=made)


def without_drop_path(module: nn.Module) -> None:
    """Switch stochastic depth off, in place: teachers have none."""
    for part in module.modules():
        if type(part).__name__ == "DropPath":
            part.drop_prob = 0.0  # type: ignore[assignment]
