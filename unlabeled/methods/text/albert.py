"""ALBERT: A Lite BERT for Self-Supervised Learning of Language Representations (1909.11942)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.python_docs import PythonDocs
from unlabeled.data.wordnet import WordNet
from unlabeled.encoders.text import AlbertEncoder, albert_encoder
from unlabeled.evaluators.masked_text import MaskedText
from unlabeled.method import Batch, Method
from unlabeled.nn.optim import lamb
from unlabeled.ops.gather import all_sum, world_size
from unlabeled.ops.precision import upcast
from unlabeled.recipe import PLAIN_1D, Optim, Recipe
from unlabeled.schedule import constant, warm_linear
from unlabeled.views.masked_pairs import IGNORED, MaskedPairs


@final
class Albert(Method):
    """Masked n-grams are found, and whether two segments are swapped.

    ``L = L_MLM + L_SOP`` (section 3.1): cross-entropy of the masked tokens, by
    ``LayerNorm(GELU(W h)) . word embedding + b``, which shares the embedding with the input, and of
    the order of the segments, from ``tanh(W h_[CLS])``.

    Args:
        encoder: embedding and layers.
    """

    encoder: AlbertEncoder

    def __init__(self, encoder: AlbertEncoder) -> None:
        super().__init__(encoder)
        size, width = encoder.words.shape
        self.transform = nn.Sequential(
            nn.Linear(encoder.dim, width), nn.GELU(), nn.LayerNorm(width)
        )
        self.bias = nn.Parameter(torch.zeros(size))
        self.pooler = nn.Sequential(nn.Linear(encoder.dim, encoder.dim), nn.Tanh())
        self.order = nn.Linear(encoder.dim, 2)
        for layer in (self.transform[0], self.pooler[0], self.order):
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Only masked tokens are compared with the vocabulary."""
        (x,) = batch["views"]
        tokens = self.encoder.local(x)
        masked = batch["target"] != IGNORED
        words = F.cross_entropy(
            upcast(self._words(tokens[masked])), batch["target"][masked], reduction="sum"
        )
        count = all_sum(masked.sum().to(words.dtype))
        order = F.cross_entropy(upcast(self.order(self.pooler(tokens[:, 0]))), batch["swapped"])
        return {"masked": world_size() * words / count.clamp_min(1), "order": order}

    def _words(self, tokens: Tensor) -> Tensor:
        return F.linear(self.transform(tokens), self.encoder.words, self.bias)

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, L] -> logits of every token [B, L, V], and of the order [B, 2]."""
        tokens = self.encoder.local(x)
        return self._words(tokens), self.order(self.pooler(tokens[:, 0]))

    def predictors(self) -> dict[str, Callable[..., Any]]:
        """``read``, besides embeddings."""
        return {"embed": self.encoder, "read": self.read}


def paper() -> Recipe:
    """ALBERT-base: 12 layers of 768, one set of weights, 125,000 steps at batch 4096 (section 4.1).

    LAMB at 0.00176 after 3,125 steps of warm-up, then in a straight line to 0, weight decay 0.01,
    length 512, 30,000 word pieces. Give the corpus with ``--data``, a folder of text files.
    """
    return Recipe(
        method=partial(Albert),
        encoder=partial(albert_encoder),
        data=PythonDocs(vocabulary_size=30_000, length=512),
        views=MaskedPairs(proposals=80),
        optim=Optim(
            kind=lamb,
            lr=warm_linear(1.76e-3, warmup=0.025),
            lr_per=None,
            weight_decay=constant(0.01),
            rules=(PLAIN_1D,),
        ),
        epochs=40,
        batch_size=4096,
        clip=1.0,
        evaluate=(MaskedText(), "linear"),
    )


def small() -> Recipe:
    """Minutes on one CPU core: 3 calls of one layer of 128 on the glosses of WordNet."""
    return Recipe(
        method=partial(Albert),
        encoder=partial(albert_encoder, layers=3, dim=128, embedding=64, heads=4),
        data=WordNet(),
        views=MaskedPairs(),
        optim=Optim(
            kind=torch.optim.AdamW,
            lr=warm_linear(1e-3, warmup=0.1),
            lr_per=None,
            weight_decay=constant(0.01),
            rules=(PLAIN_1D,),
        ),
        epochs=3,
        batch_size=64,
        clip=1.0,
        evaluate=(MaskedText(), "linear"),
    )
