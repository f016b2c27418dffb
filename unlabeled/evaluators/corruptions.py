"""Corruptions: how much of what a probe reads off clean images it still reads off corrupted ones.

Hendrycks and Dietterich 2019, arXiv:1903.12261, section 4.2, on corruptions that are generated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from unlabeled.data.source import DataSource, ImageSpec
from unlabeled.evaluators.corrupted import hold
from unlabeled.evaluators.evaluator import (
    Figure,
    Measure,
    check_labels,
    device_of,
    draw,
    flatten,
)
from unlabeled.evaluators.linear import Linear
from unlabeled.features import embed
from unlabeled.ops.corruptions import COLORED, CORRUPTIONS, SEVERITIES

if TYPE_CHECKING:
    from jaxtyping import Float

PROBE = Linear()


@dataclass(frozen=True, kw_only=True)
class Corruptions:
    """Errors of the linear probe, fitted to clean train features, on corrupted test images.

    With ``E[c, s]`` the error under corruption c in severity s, and ``R`` that of the same probe on
    raw pixels, which stand where the paper has AlexNet:

    ``clean_error``: on the same images as they are; ``corruption_error``: the mean of E;
    ``mce``: ``mean_c (sum_s E[c, s] / sum_s R[c, s])``, below 100 % for what beats pixels;
    ``relative_mce``: ``sum (E - E_clean) / sum (R - R_clean)``, whether corruption costs more
    than it costs pixels. The paper averages these quotients over c; some corruptions cost pixels
    next to nothing, so here the sums are divided. A quotient by nothing is left out.

    Images are corrupted at the encoder's size, in 8 bits, before they are normalized.

    Args:
        names: corruptions; those of colors are left out where images have none.
        severities: of each.
        tests: images of test that are judged, drawn by ``seed``; all where there are fewer.
        rows: labeled samples of train, a stratified part; all where there are fewer.
        probe: the linear probe.
        seed: of the images, the part and the corruptions.
        every: epochs between two calls during training, None for never.

    Raises:
        ValueError: no or unknown corruptions, severities outside 1 to 5, counts below 1; at
            judging, data that are no images or have no labels.
    """

    name: ClassVar[str] = "corruptions"
    needs: ClassVar[str] = "encoder"
    protocol: ClassVar[str] = "corruptions/linear-lbfgs-v1"
    names: tuple[str, ...] = CORRUPTIONS
    severities: tuple[int, ...] = SEVERITIES
    tests: int = 2000
    rows: int = 10_000
    probe: Linear = PROBE
    seed: int = 0
    every: int | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.names if name not in CORRUPTIONS]
        if unknown or not self.names:
            raise ValueError(f"names are {self.names}: use some of {', '.join(CORRUPTIONS)}")
        if not self.severities or not set(self.severities) <= set(SEVERITIES):
            raise ValueError(f"severities are {self.severities}: give some of 1 to 5")
        if min(self.tests, self.rows) < 1:
            raise ValueError(f"tests is {self.tests}, rows is {self.rows}: give numbers above 0")

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Fit the probe to clean train, read test once under each corruption."""
        return _measures(self._read(predict, predict.spec, data), _floor(self, data))

    def plain(self, data: DataSource) -> list[Measure]:
        """The same of raw input: both quotients are 100 %."""
        floor = _floor(self, data)
        return _measures(floor, floor)

    def figures(self, predict: Any, data: DataSource) -> list[Figure]:
        """One test image and all that becomes of it."""
        held = hold(data, predict.spec, most=1, seed=self.seed, device=device_of(predict))
        image = held.samples.__getitems__([0])
        names = self._names(held.facts)
        rows = [
            torch.cat(
                [held.pixels(image)]
                + [held.under(name, each).pixels(image) for each in self.severities],
                3,
            )
            for name in names
        ]
        severities = ", ".join(map(str, self.severities))
        title = f"A test image, then severities {severities} of {', '.join(names)}"
        return [Figure(title.replace("_", " "), torch.cat(rows, 2).cpu())]

    def __call__(self, predict: Any, data: DataSource) -> dict[str, float]:
        """Judge, as named values."""
        return flatten(self.judge(predict, data), self.name)

    def _names(self, spec: ImageSpec) -> tuple[str, ...]:
        names = tuple(name for name in self.names if spec.channels == 3 or name not in COLORED)
        if not names:
            raise ValueError(f"images have no colors for {', '.join(self.names)}: ask for others")
        return names

    def _read(self, predict: Any, spec: Any, data: DataSource) -> _Read:
        held = hold(data, spec, most=self.tests, seed=self.seed, device=device_of(predict))
        names = self._names(held.facts)
        clean = held.embedded(predict)
        train = embed(predict, data, split="train", spec=spec)
        label, truth, classes = check_labels(train, clean, fewest=2)
        share = min(1.0, self.rows / len(label))
        generator = torch.Generator().manual_seed(self.seed)
        part, _ = draw(label, share=share, least=2, generator=generator)
        probe = self.probe.fitted(train.x[part], label[part], classes=classes)
        found = [
            probe.predict(held.under(name, severity).embedded(predict).x) != truth
            for name in names
            for severity in self.severities
        ]
        wrong = torch.stack(found).double().view(len(names), len(self.severities), -1)
        details = {"severities": list(self.severities), "strength": probe.details["strength"]}
        missed = (probe.predict(clean.x) != truth).double()
        return _Read(missed, wrong, names, len(part), details)


@dataclass(frozen=True)
class _Read:
    """1 where a test image was not recognized: clean [N], corrupted [names, severities, N]."""

    missed: Tensor
    wrong: Tensor
    names: tuple[str, ...]
    train: int
    details: dict[str, Any]

    @property
    def errors(self) -> Tensor:
        """[names, severities], in percent."""
        return 100 * self.wrong.mean(2)


@lru_cache(maxsize=2)
def _floor(judge: Corruptions, data: DataSource) -> _Read:
    """Raw input, by which each encoder of an evaluation is divided."""
    return judge._read(data.raw, data.spec(), data)


def _measures(own: _Read, floor: _Read) -> list[Measure]:
    def of(metric: str, each: Tensor, **details: Any) -> Measure:
        """``each`` image's part of the value; floor and encoder are compared pair by pair."""
        return Measure(
            metric=metric,
            value=100 * float(each.mean()),
            train=own.train,
            test=len(each),
            hits=each,
            higher_is_better=False,
            details={**own.details, **details},
        )

    errors = dict(zip(own.names, own.errors.tolist(), strict=True))
    found = [
        of("clean_error", own.missed),
        of("corruption_error", own.wrong.mean((0, 1)), errors=errors),
    ]
    quotients = corruption_quotients(own.wrong, floor.wrong)
    if quotients is not None:
        each = dict(zip(own.names, (100 * quotients.mean(1)).tolist(), strict=True))
        found.append(of("mce", quotients.mean(0), ce=each))
    relative = relative_quotient(own.wrong, own.missed, floor.wrong, floor.missed)
    if relative is not None:
        found.append(of("relative_mce", relative))
    return found


def corruption_quotients(
    wrong: Float[Tensor, "K S N"], floor: Float[Tensor, "K S N"]
) -> Float[Tensor, "K N"] | None:
    """Each image's part of ``CE_c = sum_s E[c, s] / sum_s R[c, s]``, their mean (section 4.2).

    None where the floor makes no errors under some corruption.

    Args:
        wrong: 1 where an image is not recognized under a corruption in a severity, else 0.
        floor: the same of the floor.
    """
    below = floor.mean(2).sum(1, keepdim=True)
    return wrong.sum(1) / below if bool((below > 0).all()) else None


def relative_quotient(
    wrong: Float[Tensor, "K S N"],
    missed: Float[Tensor, " N"],
    floor: Float[Tensor, "K S N"],
    floor_missed: Float[Tensor, " N"],
) -> Float[Tensor, " N"] | None:
    """Each image's part of ``sum (E - E_clean) / sum (R - R_clean)``, their mean.

    It is negative where corruption helps; None where it costs the floor nothing.

    Args:
        wrong: as in `corruption_quotients`.
        missed: 1 where an image is not recognized as it is, else 0.
        floor: the same of the floor.
        floor_missed: the same of the floor.
    """
    below = (floor - floor_missed).mean(2).sum()
    return (wrong - missed).sum((0, 1)) / below if bool(below > 0) else None
