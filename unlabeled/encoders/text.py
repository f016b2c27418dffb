"""Encoders of text, over transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from unlabeled.data.texts import PAD, SEP, TextSpec
from unlabeled.encoders.encoder import Encoder
from unlabeled.extras import require

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class AlbertEncoder(Encoder):
    """transformers' AlbertModel; `albert_encoder` builds it.

    ``local`` are the last layer's tokens, 0 at padding, ``encoder(x)`` their mean.
    """

    def __init__(self, net: Any, *, spec: TextSpec) -> None:
        super().__init__()
        self.net, self.spec = net, spec
        self.dim = int(net.config.hidden_size)

    def local(self, x: Int[Tensor, "B L"]) -> Float[Tensor, "B L dim"]:
        """[B, L, dim]: what follows the first [SEP] is the second segment."""
        ends = (x == SEP).long()
        segment = ((ends.cumsum(1) - ends) > 0).long()
        inside = x != PAD
        found = self.net(input_ids=x, attention_mask=inside.long(), token_type_ids=segment * inside)
        return found.last_hidden_state * inside[..., None]

    def pool(self, local: Float[Tensor, "B L dim"]) -> Float[Tensor, "B dim"]:
        """[B, dim]: the mean over the tokens that are no padding."""
        count = (local != 0).any(2).sum(1, keepdim=True).clamp_min(1)
        return local.sum(1) / count

    @property
    def words(self) -> Tensor:
        """[V, E]: the word embedding, which the output shares."""
        return self.net.embeddings.word_embeddings.weight


def albert_encoder(
    spec: TextSpec,
    *,
    layers: int = 12,
    dim: int = 768,
    embedding: int = 128,
    heads: int = 12,
    groups: int = 1,
    dropout: float = 0.0,
) -> AlbertEncoder:
    """Build ALBERT: a factorized embedding, and one layer that is called many times (section 3.1).

    Args:
        spec: vocabulary and length.
        layers: how often a layer is called.
        dim: H.
        embedding: E.
        heads: of attention.
        groups: of layers that share their weights; ``layers`` for none that do.
        dropout: of hidden units and attention.

    Raises:
        ImportError: transformers is missing; says how to get it.
        ValueError: sizes that do not divide.
    """
    if dim % heads or not 1 <= groups <= layers:
        raise ValueError(
            f"dim {dim}, heads {heads}, groups {groups}, layers {layers}: heads divide dim, and "
            "there are at most as many groups as layers"
        )
    transformers = require("transformers", extra="text")
    config = transformers.AlbertConfig(
        vocab_size=len(spec.vocabulary),
        embedding_size=embedding,
        hidden_size=dim,
        num_hidden_layers=layers,
        num_hidden_groups=groups,
        num_attention_heads=heads,
        intermediate_size=4 * dim,
        hidden_act="gelu",
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        max_position_embeddings=max(spec.length, 512),
        pad_token_id=PAD,
    )
    return AlbertEncoder(transformers.AlbertModel(config, add_pooling_layer=False), spec=spec)
