"""Views of data in cases: of two images of a case, or of one."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unlabeled.data.source import ImageSpec
from unlabeled.method import Batch
from unlabeled.views.augment import Augment
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import raw_images, resized
from unlabeled.views.resize import Images

if TYPE_CHECKING:
    from jaxtyping import Int


@dataclass(frozen=True)
class MultiInstance:
    """A random view of each of two distinct images of a case; of the one image where it has one.

    MICLe (arXiv:2101.05224), section 3.2. A batch without ``instances`` has cases of one image.

    Args:
        augment: T of both views.
        spec: what the encoder gets; set by `fit`.
    """

    augment: Augment
    _: KW_ONLY
    spec: ImageSpec | None = None

    def fit(self, spec: ImageSpec) -> MultiInstance:
        """Return a copy whose size follows the spec where it is None."""
        augment = self.augment.fit(spec)
        return replace(self, augment=augment, spec=resized(spec, augment))

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """Return a new batch with two views [B, C, S, S], their boxes and flips."""
        cases = _cases(batch)
        places = pairs(_counts(cases), generator)
        return _views(batch, cases, places, generator, self.augment, self.spec)


@dataclass(frozen=True)
class SingleInstance:
    """Two random views of one image of a case, another one each epoch: SimCLR on data in cases.

    Args:
        augment: T of both views.
        spec: what the encoder gets; set by `fit`.
    """

    augment: Augment
    _: KW_ONLY
    spec: ImageSpec | None = None

    def fit(self, spec: ImageSpec) -> SingleInstance:
        """Return a copy whose size follows the spec where it is None."""
        augment = self.augment.fit(spec)
        return replace(self, augment=augment, spec=resized(spec, augment))

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """Return a new batch with two views [B, C, S, S], their boxes and flips."""
        cases = _cases(batch)
        place = pairs(_counts(cases), generator)[0]
        return _views(batch, cases, (place, place), generator, self.augment, self.spec)


def pairs(
    counts: Int[Tensor, " B"], generator: SampleGenerator
) -> tuple[Int[Tensor, " B"], Int[Tensor, " B"]]:
    """Draw two distinct places in each case, all pairs equally likely; 0 and 0 in a case of one."""
    unit = generator.uniform(2).double().cpu()
    first = (unit[:, 0] * counts).long()
    step = 1 + (unit[:, 1] * (counts - 1)).long()
    return first, (first + step) % counts


def _cases(batch: Batch) -> list[Any]:
    """All images of each case."""
    return batch.get("instances") or [[image] for image in raw_images(batch)]


def _joined(images: list[Tensor]) -> Images:
    """One tensor where sizes agree, else the list."""
    return torch.stack(images) if len({image.shape for image in images}) == 1 else images


def _counts(cases: list[Any]) -> Tensor:
    return torch.tensor([len(case) for case in cases])


def _views(
    batch: Batch,
    cases: list[Any],
    places: tuple[Tensor, Tensor],
    generator: SampleGenerator,
    augment: Augment,
    spec: ImageSpec | None,
) -> Batch:
    if spec is None:
        raise ValueError("views have no spec: call fit(data.spec()) first")
    boxes: list[Tensor] = []
    flips: list[Tensor] = []
    views: list[Tensor] = []
    for chosen in places:
        images = _joined([case[at] for case, at in zip(cases, chosen.tolist(), strict=True)])
        drawn = augment.draw(images, generator)
        views.append(augment.apply(images, drawn, spec))
        boxes.append(drawn.box)
        flips.append(drawn.flip)
    result: Batch = {**batch, "views": views, "box": boxes, "flip": flips}
    result.pop("instances", None)
    return result
