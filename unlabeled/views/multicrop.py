"""Multi-crop: a few large views and several small ones."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace

from unlabeled.data.source import ImageSpec
from unlabeled.method import Batch
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import Augment, draw_views, resized


@dataclass(frozen=True)
class MultiCrop:
    """Several views of each image in two sizes, the large ones first (SwAV, section 3.3).

    Args:
        large: distribution of the large views.
        small: distribution of the small views. Where its size is None, `fit` makes it the even
            number next to ``small_size_ratio`` times the large size, at least 8.
        large_count: how many large views.
        small_count: how many small views.
        small_size_ratio: side of the small views over that of the large ones.
        spec: what the encoder gets as large views; set by `fit`.

    Raises:
        ValueError: a count below 1 (large) or 0 (small), or a ratio outside (0, 1].
    """

    large: Augment
    small: Augment
    _: KW_ONLY
    large_count: int = 2
    small_count: int = 6
    small_size_ratio: float = 96 / 224
    spec: ImageSpec | None = None

    def __post_init__(self) -> None:
        if self.large_count < 1 or self.small_count < 0:
            raise ValueError(
                f"large_count is {self.large_count} and small_count {self.small_count}: "
                "give at least 1 and 0"
            )
        if not 0 < self.small_size_ratio <= 1:
            raise ValueError(f"small_size_ratio is {self.small_size_ratio}: give it in (0, 1]")

    def fit(self, spec: ImageSpec) -> MultiCrop:
        """Return a copy whose sizes follow the spec where they are None."""
        large = self.large.fit(spec)
        spec = resized(spec, large)
        small = self.small
        if small.size is None:
            even = 2 * round(self.small_size_ratio * spec.size / 2)
            small = replace(small, size=max(8, even))
        return replace(self, large=large, small=small, spec=spec)

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """Return a new batch with all views, their boxes and flips."""
        augments = (self.large,) * self.large_count + (self.small,) * self.small_count
        return draw_views(batch, generator, augments, self.spec)
