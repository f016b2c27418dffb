"""Pairs of segments in or out of order, with masked n-grams of whole words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from unlabeled.data.texts import CLS, MASK, PAD, SEP, SPECIAL, TextSpec
from unlabeled.method import Batch
from unlabeled.views.generator import SampleGenerator

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

IGNORED = -100
"""Of targets where nothing is masked."""


def ngram_probabilities(longest: int) -> Tensor:
    """``p(n) ~ 1 / n`` for n = 1 .. longest (ALBERT, section 3.1, eq. 1)."""
    weight = 1 / torch.arange(1, longest + 1)
    return weight / weight.sum()


def choose_ngrams(
    word: Int[Tensor, "B T"],
    budget: Int[Tensor, " B"],
    start: Float[Tensor, "B R"],
    length: Int[Tensor, "B R"],
) -> Bool[Tensor, "B T"]:
    """Tokens of n-grams of whole words, chosen one after the other within each sample's budget.

    Proposal r begins at the word at ``start[r]`` (a share of the words) and has ``length[r]``
    words; where that overlaps or exceeds the budget a shorter one is tried, then none.

    Args:
        word: number of each token's word, -1 for what cannot be masked.
        budget: tokens at most.
        start: proposals, in [0, 1).
        length: words of each, at least 1.
    """
    words = word.amax(1) + 1
    chosen = torch.zeros_like(word, dtype=torch.bool)
    for r in range(start.shape[1]):
        first = (start[:, r].to(torch.float64) * words).long()
        done = torch.zeros(len(word), dtype=torch.bool, device=word.device)
        for shorter in range(int(length.max())):
            count = length[:, r] - shorter
            span = (word >= first[:, None]) & (word < (first + count)[:, None])
            fits = (count > 0) & ~done & ~(span & chosen).any(1) & (first + count <= words)
            fits &= (chosen.sum(1) + span.sum(1) <= budget) & span.any(1)
            chosen |= span & fits[:, None]
            done |= fits
    return chosen


def pair_segments(
    ids: Int[Tensor, "B T"], second: Bool[Tensor, "B T"], swapped: Bool[Tensor, " B"], length: int
) -> tuple[Int[Tensor, "B L"], Int[Tensor, "B T"]]:
    """[CLS] A [SEP] B [SEP], or B before A where swapped; and where each token went.

    Args:
        ids: tokens of A, then of B, padded with 0.
        second: which of them are B's.
        swapped: whether B comes first.
        length: L.
    """
    inside = ids != PAD
    total = inside.sum(1, keepdim=True)
    last = (second & inside).sum(1, keepdim=True)
    first = total - last
    place = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    straight = torch.where(second, place + 2, place + 1)
    turned = torch.where(second, place - first + 1, place + last + 2)
    to = torch.where(swapped[:, None], turned, straight)
    spare = torch.where(inside, to, length)  # padding goes beyond the end
    row = torch.zeros(len(ids), length + 1, dtype=torch.int64, device=ids.device)
    row.scatter_(1, spare, ids)
    row[:, 0] = CLS
    middle = torch.where(swapped[:, None], last, first) + 1
    row.scatter_(1, middle, SEP)
    row.scatter_(1, total + 2, SEP)
    return row[:, :length], to


@dataclass(frozen=True, kw_only=True)
class MaskedPairs:
    """ALBERT's input: two segments, swapped half of the time, with 15 % of tokens to be found.

    Each piece is divided after a random sentence (section 3.1). N-grams of whole words are masked,
    n up to 3 with probability ~ 1/n, up to 15 % of the tokens; a masked token is [MASK] in 80 %, a
    random one in 10 %, itself in 10 %. The view is the input [B, L]; ``target`` [B, L] has the
    tokens to be found and -100 elsewhere, ``swapped`` [B] is 1 where the segments are swapped.

    Args:
        share: of the tokens.
        longest: n at most.
        proposals: n-grams that are tried.
        spec: what the encoder gets; set by `fit`.
    """

    share: float = 0.15
    longest: int = 3
    proposals: int = 12
    spec: TextSpec | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share < 1 or self.longest < 1:
            raise ValueError(
                f"share is {self.share}, longest {self.longest}: give a share in (0, 1), n from 1"
            )

    def fit(self, spec: TextSpec) -> MaskedPairs:
        """Return a copy with the vocabulary."""
        return replace(self, spec=spec)

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """Return a new batch with one view [B, L], ``target`` and ``order``."""
        if self.spec is None:
            raise ValueError("views have no spec: call fit(data.spec()) first")
        (ids,), sentence = batch["views"], batch["sentence"]
        count = sentence.amax(1) + 1
        after = 1 + (generator.uniform().double() * (count - 1)).long()
        second = sentence >= after[:, None]
        swapped = generator.coin(0.5)
        row, to = pair_segments(ids, second, swapped, self.spec.length)
        inside = ids != PAD
        # words are numbered in the order of the input, so that an n-gram stays within a segment
        word = torch.where(inside, batch["begins"].cumsum(1) - 1, -1)
        chosen = self._ngrams(word, second, inside, generator)
        target = torch.full_like(row, IGNORED)
        spare = torch.where(chosen, to, self.spec.length)
        target = _put(target, spare, ids)
        kind = generator.uniform(ids.shape[1])
        size = len(self.spec.vocabulary) - len(SPECIAL)
        other = len(SPECIAL) + generator.integers(ids.shape[1], high=size)
        shown = torch.where(kind < 0.8, MASK, torch.where(kind < 0.9, other, ids))
        result: Batch = {
            **batch,
            "views": [_put(row, spare, shown)],
            "target": target,
            "swapped": swapped.long(),
        }
        return result

    def _ngrams(
        self, word: Tensor, second: Tensor, inside: Tensor, generator: SampleGenerator
    ) -> Tensor:
        budget = (self.share * inside.sum(1).double()).round().long().clamp_min(1)
        start = generator.uniform(self.proposals)
        cdf = ngram_probabilities(self.longest).cumsum(0)
        draw = generator.uniform(self.proposals)
        length = 1 + torch.searchsorted(cdf, draw.contiguous()).clamp_max(self.longest - 1)
        # a gap in the numbers keeps n-grams from going over the border of the segments
        gap = torch.where(second & inside, self.longest, 0)
        return choose_ngrams(torch.where(inside, word + gap, -1), budget, start, length)


def _put(row: Tensor, place: Tensor, value: Tensor) -> Tensor:
    """Scatter into all but the place beyond the end."""
    wide = torch.cat([row, row[:, :1]], 1)
    return wide.scatter(1, place, value)[:, :-1]
