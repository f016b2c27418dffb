"""Transfer: any protocol on other data than the encoder was trained on."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from unlabeled.data.source import DataSource
from unlabeled.encoders.encoder import Encoder
from unlabeled.evaluators.evaluator import Measure, is_task
from unlabeled.features import embed


@dataclass(frozen=True)
class Transfer:
    """What a judge finds of the encoder on a target, whatever data the evaluation is of.

    Target images come in the encoder's size and normalization (How Well Do Self-Supervised Models
    Transfer?, 2011.13377); those of segmentation and detection keep their own.

    Args:
        target: labeled data, with as many channels as the encoder takes.
        judge_by: an evaluator of features, or of ``encoder``, ``local`` or ``maps``.
        every: epochs between two calls during training, None for never.

    Raises:
        ValueError: at judging, a target with other channels, or what the judge refuses.
    """

    target: DataSource
    judge_by: Any
    _: KW_ONLY
    every: int | None = None
    needs: ClassVar[str] = "encoder"

    @property
    def name(self) -> str:
        """``digits_linear``."""
        return f"{self.target.name}_{self.judge_by.name}"

    @property
    def protocol(self) -> str:
        """``digits_linear/lbfgs-v1``."""
        return f"{self.name}/{self.judge_by.protocol.partition('/')[2]}"

    def judge(self, predict: Encoder, data: DataSource) -> list[Measure]:
        """Judge on the target."""
        own, takes = self.target.spec().channels, predict.spec.channels
        if own != takes:
            raise ValueError(
                f"{self.target.name} has {own} channels, the encoder takes {takes}: wrap the "
                "target (unlabeled.data.gray) or train on data with as many"
            )
        if not is_task(self.judge_by):
            train, test = (
                embed(predict, self.target, split=split, spec=predict.spec)
                for split in ("train", "test")
            )
            found: list[Measure] = self.judge_by.score(train, test)
            return found
        offered = {"encoder": predict, "local": predict.local, "maps": predict.maps}
        return self.judge_by.judge(offered[self.judge_by.needs], self.target)

    def plain(self, data: DataSource) -> list[Measure]:
        """The judge's own floor: the target's raw input."""
        if is_task(self.judge_by):
            return self.judge_by.plain(self.target)
        raw = self.target.raw
        train, test = (embed(raw, self.target, split=split) for split in ("train", "test"))
        found: list[Measure] = self.judge_by.score(train, test)
        return found

    def __call__(self, predict: Encoder, data: DataSource) -> dict[str, float]:
        """Judge, as named values."""
        return {f"{self.name}/{each.metric}": each.value for each in self.judge(predict, data)}
