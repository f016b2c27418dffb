"""PretextProbe: a linear layer on frozen features that answers a question without labels.

Evaluating Self-Supervised Pretraining Without Using Labels (2009.07724): how well rotations are
told apart on frozen features orders models much as labels would.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from unlabeled.data.order import spread
from unlabeled.data.source import DataSource, ImageSpec
from unlabeled.evaluators.evaluator import Measure, device_of, flatten, measure
from unlabeled.evaluators.linear import Linear
from unlabeled.ops.color import lab_to_rgb, rgb_to_lab

if TYPE_CHECKING:
    from jaxtyping import Float, Int

LOG = logging.getLogger("unlabeled")

CHUNK = 250
TILES = tuple(permutations(range(4)))
"""The 24 orders of four tiles."""
STEP, REACH = 10.0, 11
"""Kinds of color are squares of so wide a side on the plane of a and b, up to 115 from gray."""
PROBE = Linear(strengths=(1e-5, 1e-3, 1e-1))
LOW = 40.0
"""Percent of rotations below which they say little of an encoder (chance is 25)."""


def rotated(x: Float[Tensor, "B C S S"]) -> tuple[Tensor, Tensor]:
    """[4 B, C, S, S] and [4 B]: all four quarter turns of each image, turn by turn."""
    turns = torch.cat([torch.rot90(x, quarter, (2, 3)) for quarter in range(4)])
    return turns, torch.arange(4).repeat_interleave(len(x))


def shuffled_tiles(x: Float[Tensor, "B C S S"], asked: Int[Tensor, " B"]) -> tuple[Tensor, Tensor]:
    """[B, C, S', S'] and [B]: the four quarters in the order that ``asked`` names; S' is even."""
    half = x.shape[2] // 2
    tiles = x[..., : 2 * half, : 2 * half].unflatten(2, (2, half)).unflatten(4, (2, half))
    tiles = tiles.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # [B, 4, C, half, half]
    kind = asked % len(TILES)
    order = torch.tensor(TILES)[kind]
    moved = tiles.gather(1, order[:, :, None, None, None].expand_as(tiles))
    rows = moved.unflatten(1, (2, 2)).permute(0, 3, 1, 4, 2, 5)
    return rows.reshape(len(x), x.shape[1], 2 * half, 2 * half), kind


def gray_with_color(x: Float[Tensor, "B 3 S S"], spec: ImageSpec) -> tuple[Tensor, Tensor]:
    """[B, 3, S, S] without color, and [B]: the kind of the mean color, a and b of CIE Lab.

    Kinds are squares of 10 x 10, of which sRGB reaches about 313 (arXiv:1603.08511).

    Args:
        x: normalized images.
        spec: their normalization.
    """
    mean, std = (x.new_tensor(value)[:, None, None] for value in (spec.mean, spec.std))
    light, chroma = rgb_to_lab((x * std + mean).clamp(0, 1)).split((1, 2), 1)
    gray = lab_to_rgb(torch.cat([light, torch.zeros_like(chroma)], 1))
    place = (chroma.mean((2, 3)) / STEP).round().long() + REACH
    return (gray - mean) / std, place[:, 0] * (2 * REACH + 1) + place[:, 1]


TASKS = ("rotation", "jigsaw", "color")


@dataclass(frozen=True, kw_only=True)
class PretextProbe:
    """Accuracy and loss of a linear probe that solves a pretext task on frozen features.

    ``rotation`` gives all four turns of each image (4 classes), ``jigsaw`` shuffles its quarters
    (24), ``color`` asks for the kind of mean color of the gray image (at most 313). The probe is
    the one of `Linear`, which is fitted exactly; the encoder stays bit-identical, and no label is
    used. Rotation orders models best in the paper; it means nothing on data without an upper side,
    and little for encoders that were trained to tell rotations. On such data the accuracy is low:
    rotations under 40 % are warned of, and marked in ``details["low"]``.

    Args:
        task: rotation, jigsaw or color.
        rows: training images, spread evenly.
        tests: held-out images: of "test", or of training images that are not in ``rows``.
        probe: the linear probe.
        seed: of the orders of tiles.
        every: epochs between two calls during training, None for never.

    Raises:
        ValueError: an unknown task; at judging, data that are no images, gray images for color,
            or an encoder in training mode, whose statistics would move.
    """

    needs: ClassVar[str] = "encoder"
    task: str = "rotation"
    rows: int = 2000
    tests: int = 1000
    probe: Linear = PROBE
    seed: int = 0
    every: int | None = None

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"task is {self.task!r}: use one of {', '.join(TASKS)}")
        if min(self.rows, self.tests) < 2:
            raise ValueError(f"rows {self.rows}, tests {self.tests}: give two or more")

    @property
    def name(self) -> str:
        """``rotation``, ``jigsaw_probe`` or ``color_probe``."""
        return self.task if self.task == "rotation" else f"{self.task}_probe"

    @property
    def protocol(self) -> str:
        """``rotation/linear-lbfgs-v1``."""
        return f"{self.name}/linear-lbfgs-v1"

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Fit the probe on questions about train, ask it about others."""
        if isinstance(predict, nn.Module) and any(each.training for each in predict.modules()):
            raise ValueError(
                f"the encoder is in training mode, in which {self.name} would change it: call "
                "encoder.eval() first"
            )
        place = device_of(predict)
        return self._judge(lambda x: predict(x.to(place)).float().cpu(), data, predict.spec)

    def plain(self, data: DataSource) -> list[Measure]:
        """The same on the raw input."""
        return self._judge(data.raw, data, data.spec())

    def __call__(self, predict: Any, data: DataSource) -> dict[str, float]:
        """Judge, as named values."""
        return flatten(self.judge(predict, data), self.name)

    def _judge(
        self, look: Callable[[Tensor], Tensor], data: DataSource, spec: Any
    ) -> list[Measure]:
        if not isinstance(spec, ImageSpec):
            raise ValueError(f"{data.name} is no images: {self.name} asks about images")
        if self.task == "color" and spec.channels != 3:
            raise ValueError(f"{data.name} has {spec.channels} channels: color needs three")
        (x, y), (asked, truth) = self._questions(look, data.plain(spec), spec)
        known, label = y.unique(return_inverse=True)
        kept = torch.isin(truth, known)
        asked, truth = asked[kept], torch.searchsorted(known, truth[kept])
        common = label.bincount() > 1  # a kind of color that was met once cannot be held out
        if not bool(common.all()):
            inside, seen = common[label], common[truth]
            renumber = common.cumsum(0) - 1
            x, label = x[inside], renumber[label[inside]]
            asked, truth = asked[seen], renumber[truth[seen]]
        probe = self.probe.fitted(x, label, classes=int(label.max()) + 1)
        logits = probe.logits(asked)
        hits = logits.argmax(1) == truth
        loss = cross_entropy(logits, truth)
        details = {**probe.details, "classes": probe.solution.bias.shape[2]}
        found = measure("top1", hits[None], train=len(x), details=details)
        if self.task == "rotation":
            found.details["low"] = found.value < LOW
            if found.details["low"]:
                LOG.warning(
                    "%s: %.1f %% of rotations are told, chance is 25: where images have no upper "
                    "side, rotations do not order encoders",
                    data.name, found.value,
                )  # fmt: skip
        return [
            found,
            Measure(
                metric="loss",
                value=float(loss),
                train=len(x),
                test=len(truth),
                unit="nats",
                higher_is_better=False,
            ),
        ]

    def _questions(
        self, look: Callable[[Tensor], Tensor], data: DataSource, spec: ImageSpec
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        samples = data.split("train")
        places = spread(len(samples), self.rows)
        try:
            others = data.split("test")
            asked = spread(len(others), self.tests)
        except ValueError:  # data without labels has no test split
            others, left = samples, sorted(set(range(len(samples))) - set(places))
            if len(left) < 2:
                half = len(places) // 2
                places, left = places[:half], places[half:]
            asked = [left[n] for n in spread(len(left), self.tests)]
        return self._asked(look, data, samples, places, spec), self._asked(
            look, data, others, asked, spec
        )

    @torch.no_grad()
    def _asked(
        self,
        look: Callable[[Tensor], Tensor],
        data: DataSource,
        samples: Any,
        places: list[int],
        spec: ImageSpec,
    ) -> tuple[Tensor, Tensor]:
        prepare, found, answers = data.prepare(spec), [], []
        generator = torch.Generator().manual_seed(self.seed)
        for start in range(0, len(places), CHUNK):
            x = prepare(data.collate(samples.__getitems__(places[start : start + CHUNK])))
            question, answer = self._question(x, spec, generator)
            found.append(look(question))
            answers.append(answer)
        return torch.cat(found), torch.cat(answers)

    def _question(
        self, x: Tensor, spec: ImageSpec, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        if self.task == "rotation":
            return rotated(x)
        if self.task == "jigsaw":
            orders = torch.randint(len(TILES), (len(x),), generator=generator)
            return shuffled_tiles(x, orders)
        return gray_with_color(x, spec)
