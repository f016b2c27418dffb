"""The linear probe by layer: how far each stage of an encoder is from the classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unlabeled.data.source import DataSource
from unlabeled.encoders.encoder import Encoder
from unlabeled.evaluators.evaluator import Measure, check_labels, draw, flatten
from unlabeled.evaluators.linear import Linear
from unlabeled.features import Features, embed

PROBE = Linear()


@dataclass(frozen=True, kw_only=True)
class Layers:
    """The linear probe on each stage of an encoder, its features averaged over positions.

    Pretext tasks are often solved in the last layers, and what is useful elsewhere lies before
    them (Zhang et al. 2016, arXiv:1603.08511, section 3.2; Jigsaw, arXiv:1603.09246, table 2).
    One measure a stage, and before them ``top1``: the stage that is best on the samples of train
    that the probe holds out, so that test chooses nothing. Nothing is measured without labels.

    Args:
        probe: the linear probe.
        rows: labeled samples of train, a stratified part; all where there are fewer.
        seed: of that part.
        every: epochs between two calls during training, None for never.

    Raises:
        ValueError: ``rows`` below 1; at judging, an encoder that does not show its stages.
    """

    name: ClassVar[str] = "layers"
    needs: ClassVar[str] = "encoder"
    protocol: ClassVar[str] = "layers/linear-lbfgs-v1"
    probe: Linear = PROBE
    rows: int = 10_000
    seed: int = 0
    every: int | None = None

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"rows is {self.rows}: give a number of training samples")

    def score(self, stages: list[tuple[Features, Features]]) -> list[Measure]:
        """Probe (train, test) of each stage; the best one first, then all in order."""
        found = [self.probe.score(*pair)[0] for pair in stages]
        held_out = [max(each.details["held_out_top1"]) for each in found]
        chosen = held_out.index(max(held_out))
        best = replace(found[chosen], details={**found[chosen].details, "stage": chosen + 1})
        named = [
            replace(each, metric=f"top1 of stage {place}", details={**each.details, "stage": place})
            for place, each in enumerate(found, 1)
        ]
        return [best, *named]

    def judge(self, predict: Encoder, data: DataSource) -> list[Measure]:
        """Embed both splits once, all stages in one forward pass, and probe each stage."""
        if _unlabeled(data):
            return []
        whole = _Stages(predict)
        train = embed(whole, data, split="train", spec=predict.spec)
        test = embed(whole, data, split="test", spec=predict.spec)
        train = self._part(train, test)
        columns = [part.x.split(whole.widths, 1) for part in (train, test)]
        return self.score(
            [
                (Features(own.contiguous(), train.label), Features(asked.contiguous(), test.label))
                for own, asked in zip(*columns, strict=True)
            ]
        )

    def plain(self, data: DataSource) -> list[Measure]:
        """The probe of the raw input, on the same samples."""
        if _unlabeled(data):
            return []
        train = embed(data.raw, data, split="train")
        test = embed(data.raw, data, split="test")
        return self.probe.score(self._part(train, test), test)

    def __call__(self, predict: Encoder, data: DataSource) -> dict[str, float]:
        """Judge, as named values."""
        return flatten(self.judge(predict, data), self.name)

    def _part(self, train: Features, test: Features) -> Features:
        label, _, _ = check_labels(train, test, fewest=2)
        generator = torch.Generator().manual_seed(self.seed)
        share = min(1.0, self.rows / len(label))
        places, _ = draw(label, share=share, least=2, generator=generator)
        return Features(train.x[places], label[places])


class _Stages(nn.Module):
    """All stages side by side, [B, sum of widths], so that one pass over the data gives all."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.widths: list[int] = []

    def forward(self, x: Any) -> Tensor:
        stages = self.encoder.stages(x)
        self.widths = [stage.shape[1] for stage in stages]
        return torch.cat(stages, 1)


def _unlabeled(data: DataSource) -> bool:
    return "label" not in data.split("train").__getitems__([0])
