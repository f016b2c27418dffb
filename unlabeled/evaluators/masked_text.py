"""MaskedText: how well a model finds masked words, and the order of segments."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.source import DataSource
from unlabeled.data.texts import TextSource
from unlabeled.evaluators.evaluator import Measure, device_of
from unlabeled.method import Batch
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.masked_pairs import IGNORED, MaskedPairs


@dataclass(frozen=True, kw_only=True)
class MaskedText:
    """Perplexity and accuracy on masked tokens of test, and accuracy on the order of segments.

    Perplexity is ``exp`` of the mean cross-entropy of a masked token. The masks are those of
    `MaskedPairs` with a fixed seed, the same for all models. Without a network: the frequencies of
    the training tokens, and no word on the order.

    Args:
        seed: of the masks and swaps.
        times: passes over test, each with other masks.
    """

    seed: int = 0
    times: int = 2
    name: str = "masked_text"
    needs: str = "read"
    every: int | None = None
    protocol: str = "masked_text/albert-v1"

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Read test."""
        losses, hits, orders = [], [], []
        place = device_of(predict)
        with torch.no_grad():
            for batch in self._batches(data):
                words, order = predict(batch["views"][0].to(place))
                masked = batch["target"] != IGNORED
                logits, truth = words[masked.to(place)].float().cpu(), batch["target"][masked]
                losses.append(F.cross_entropy(logits, truth, reduction="none"))
                hits.append(logits.argmax(1) == truth)
                orders.append(order.cpu().argmax(1) == batch["swapped"])
        found = _words(torch.cat(losses), torch.cat(hits))
        return [*found, _share("order", torch.cat(orders))]

    def plain(self, data: DataSource) -> list[Measure]:
        """Guess by frequency."""
        counts = torch.bincount(
            _texts(data).split("train").ids.flatten(), minlength=len(_texts(data).spec().vocabulary)
        ).double()
        counts[0] = 0
        share = ((counts + 1) / (counts + 1).sum()).log()
        targets = torch.cat([b["target"][b["target"] != IGNORED] for b in self._batches(data)])
        return _words(-share[targets], targets == share.argmax())

    def _batches(self, data: DataSource) -> Iterator[Batch]:
        texts = _texts(data)
        samples, views = texts.split("test"), MaskedPairs().fit(texts.spec())
        for epoch in range(self.times):
            for at in range(0, len(samples), 256):
                raw = samples.__getitems__(list(range(at, min(at + 256, len(samples)))))
                yield views(raw, SampleGenerator(self.seed, epoch, raw["index"]))


def _texts(data: DataSource) -> TextSource:
    if not isinstance(data, TextSource):
        raise ValueError(f"{data.name} is no text: masked words need a TextSource")
    return data


def _words(loss: Tensor, hit: Tensor) -> list[Measure]:
    perplexity = math.exp(float(loss.mean()))
    return [
        Measure(
            metric="perplexity", value=perplexity, test=len(loss), unit="", higher_is_better=False
        ),
        _share("masked_accuracy", hit),
    ]


def _share(metric: str, hit: Tensor) -> Measure:
    return Measure(metric=metric, value=100 * float(hit.float().mean()), test=len(hit))
