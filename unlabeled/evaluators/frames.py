"""FrameProbe: what a linear map reads off each frame of speech."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unlabeled.data.source import DataSource
from unlabeled.data.spoken import CONTROL, Spoken
from unlabeled.encoders.logmel import LogMel
from unlabeled.evaluators.evaluator import Measure, device_of
from unlabeled.evaluators.linear import Linear
from unlabeled.features import Features, batches


@dataclass(frozen=True, kw_only=True)
class FrameProbe:
    """Accuracy of the phone, and of the word, that a logistic regression reads off single frames.

    The regression is `Linear`, its strength chosen inside train, on random frames of ``local``.
    The floor without a network is the log-mel spectrum of the frame.

    Args:
        frames: of each split.
        seed: of the choice.
    """

    frames: int = 12_000
    seed: int = 0
    name: str = "frames"
    needs: str = "local"
    every: int | None = None
    protocol: str = "frames/linear-v1"

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Probe ``encoder.local``."""
        encoder, place = predict.__self__, device_of(predict)
        return self._probe(
            lambda x: predict(x.to(place)).float().cpu(), encoder.logmel, encoder.spec, data
        )

    def plain(self, data: DataSource) -> list[Measure]:
        """Probe the spectrum."""
        logmel = LogMel(data.spec())
        return self._probe(logmel, logmel, data.spec(), data)

    def _probe(
        self, read: Callable[[Tensor], Tensor], logmel: LogMel, spec: Any, data: DataSource
    ) -> list[Measure]:
        if not isinstance(data, Spoken):
            raise ValueError(f"{data.name} does not know its phones: frames need Spoken")
        splits = [self._frames(read, logmel, spec, data, name) for name in ("train", "test")]
        found = []
        for kind in ("phone", "word"):
            train, test = (Features(x, labels[kind]) for x, labels in splits)
            (score,) = Linear(seed=self.seed).score(train, test)
            found.append(
                Measure(
                    metric=kind,
                    value=score.value,
                    train=len(train),
                    test=len(test),
                    hits=score.hits,
                    details=score.details,
                )
            )
        return found

    def _frames(
        self,
        read: Callable[[Tensor], Tensor],
        logmel: LogMel,
        spec: Any,
        data: Spoken,
        split: str,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """[n, d] of random frames, and what is said there."""
        generator = torch.Generator().manual_seed(self.seed)
        each = max(1, self.frames // data.size(split))
        x, kinds = [], {"phone": [], "word": []}  # type: ignore[var-annotated]
        with torch.no_grad():
            for wave, batch in batches(data, split, spec, batch_size=100):
                local = read(wave)
                chosen = torch.rand(local.shape[:2], generator=generator).argsort(1)[:, :each]
                x.append(torch.take_along_dim(local, chosen[..., None], 1).flatten(0, 1))
                moment = logmel.centers(local.shape[1])[chosen] // CONTROL
                for kind, rows in kinds.items():
                    rows.append(batch[kind].gather(1, moment).flatten())
        return torch.cat(x), {kind: torch.cat(rows) for kind, rows in kinds.items()}
