"""Views that share one family of augmentations with the query and draw all others afresh."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace

from torch import Tensor

from unlabeled.data.source import ImageSpec
from unlabeled.method import Batch
from unlabeled.ops.rotate import quarter_turns
from unlabeled.views.augment import Augment, Parameters
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import raw_images, resized

FAMILIES = ("color", "rotation")


@dataclass(frozen=True)
class LeaveOneOut:
    """A query, a key of its own, and for each family a key that copies the query's draw of it.

    LooC (arXiv:2008.05659), section 3.1: view 0 is the query, view 1 the key k0 whose parameters
    are all independent, view 1 + i the key k_i whose parameters of family i are the query's and
    whose others are drawn again. What is copied are parameters: the jitter's factors, order and
    whether it applies, and whether gray applies ("color"); the angle in quarter turns
    ("rotation", applied after the crop, so that a copy is the same final angle). Crop, flip and
    blur are each view's own. The batch records the turns as ``angle``.

    Args:
        augment: crop, flip, color and blur.
        families: which of `FAMILIES` have a key; images turn only if "rotation" is one.
        spec: what the encoder gets; set by `fit`.

    Raises:
        ValueError: an unknown family, or one twice.
    """

    augment: Augment
    _: KW_ONLY
    families: tuple[str, ...]
    spec: ImageSpec | None = None

    def __post_init__(self) -> None:
        if not set(self.families) <= set(FAMILIES) or len(set(self.families)) < len(self.families):
            raise ValueError(f"families are {self.families}: name {FAMILIES} at most once each")

    def fit(self, spec: ImageSpec) -> LeaveOneOut:
        """Return a copy whose size follows the spec where it is None."""
        augment = self.augment.fit(spec)
        return replace(self, augment=augment, spec=resized(spec, augment))

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """Return a new batch with 2 + len(families) views, their boxes, flips and angles."""
        if self.spec is None:
            raise ValueError("views have no spec: call fit(data.spec()) first")
        images = raw_images(batch)
        count = 2 + len(self.families)
        drawn = [self.augment.draw(images, generator) for _ in range(count)]
        angles = [generator.integers(high=4).to(images[0].device) for _ in range(count)]
        for place, family in enumerate(self.families, start=2):
            if family == "color":
                drawn[place] = _copy_color(drawn[0], to=drawn[place])
            else:
                angles[place] = angles[0]
        views = [self.augment.apply(images, each, self.spec) for each in drawn]
        if "rotation" in self.families:
            pairs = zip(views, angles, strict=True)
            views = [quarter_turns(view, angle) for view, angle in pairs]
        else:
            angles = [angle * 0 for angle in angles]
        boxes: list[Tensor] = [each.box for each in drawn]
        flips: list[Tensor] = [each.flip for each in drawn]
        result: Batch = {**batch, "views": views, "box": boxes, "flip": flips, "angle": angles}
        return result


def _copy_color(source: Parameters, *, to: Parameters) -> Parameters:
    return to._replace(
        jitter=source.jitter, factors=source.factors, keys=source.keys, gray=source.gray
    )
