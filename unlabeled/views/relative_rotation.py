"""Pairs of an upright and a turned view, of two domains."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace

from torch import Tensor

from unlabeled.data.source import ImageSpec
from unlabeled.method import Batch
from unlabeled.ops.rotate import quarter_turns
from unlabeled.views.augment import Augment
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import raw_images, resized


@dataclass(frozen=True)
class RelativeRotation:
    """Two random views of each image, the second turned by a random quarter turn; of both domains.

    ``views`` are the target's two, ``source_views`` the source's; ``angle`` and ``source_angle``
    [B] say how many quarter turns counterclockwise.

    Args:
        augment: of all views.
        spec: what the encoder gets; set by `fit`.
    """

    augment: Augment
    _: KW_ONLY
    spec: ImageSpec | None = None

    def fit(self, spec: ImageSpec) -> RelativeRotation:
        """Return a copy whose size follows the spec where it is None."""
        augment = self.augment.fit(spec)
        return replace(self, augment=augment, spec=resized(spec, augment))

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """Return a new batch with both pairs."""
        if self.spec is None:
            raise ValueError("views have no spec: call fit(data.spec()) first")
        found: list[tuple[list[Tensor], Tensor]] = []
        for images in (raw_images(batch), batch["source_images"]):
            parameters = self.augment.draw(images, generator, times=2)
            views = self.augment.apply(images, parameters, self.spec).split(len(images))
            angle = generator.integers(high=4).to(images[0].device)
            found.append(([views[0], quarter_turns(views[1], angle)], angle))
        (target, angle), (source, source_angle) = found
        result: Batch = {
            **batch,
            "views": target,
            "angle": [angle],
            "source_views": source,
            "source_angle": source_angle,
        }
        return result
