"""Views of AMDIM's kind: mirrored together, then changed apart."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.source import ImageSpec
from unlabeled.method import Batch
from unlabeled.views.augment import Augment
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import raw_images, resized


@dataclass(frozen=True)
class SharedFlip:
    """Two random views of each image that are mirrored both or not at all.

    The flip is drawn once an image (AMDIM, arXiv:1906.00910; YADIM), all else once a view.

    Args:
        augment: distribution of the views.
        shift: largest translation in pixels of the view, edges mirrored; in place of crops on
            CIFAR-10.
        shift_probability: of a translation.
        spec: what the encoder gets; set by `fit`.

    Raises:
        ValueError: a shift below 0, or a probability out of range.
    """

    augment: Augment
    _: KW_ONLY
    shift: int = 0
    shift_probability: float = 0.8
    spec: ImageSpec | None = None

    def __post_init__(self) -> None:
        if self.shift < 0 or not 0 <= self.shift_probability <= 1:
            raise ValueError(
                f"shift is {self.shift} px with probability {self.shift_probability}: give at "
                "least 0 and a probability in [0, 1]"
            )

    def fit(self, spec: ImageSpec) -> SharedFlip:
        """Return a copy whose size follows the spec where it is None."""
        augment = self.augment.fit(spec)
        return replace(self, augment=augment, spec=resized(spec, augment))

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """Return a new batch with two views [B, C, S, S], their boxes and flips."""
        if self.spec is None:
            raise ValueError("views have no spec: call fit(data.spec()) first")
        images = raw_images(batch)
        first, second = (self.augment.draw(images, generator) for _ in range(2))
        second = second._replace(flip=first.flip)
        views = [
            self._shift(self.augment.apply(images, drawn, self.spec), generator)
            for drawn in (first, second)
        ]
        result: Batch = {
            **batch,
            "views": views,
            "box": [first.box, second.box],
            "flip": [first.flip, second.flip],
        }
        return result

    def _shift(self, view: Tensor, generator: SampleGenerator) -> Tensor:
        if self.shift == 0:
            return view
        on = generator.coin(self.shift_probability).long()[:, None]
        start = generator.integers(2, high=2 * self.shift + 1)
        start = (self.shift + (start - self.shift) * on).to(view.device)
        taps = torch.arange(view.shape[-1], device=view.device)
        rows = (start[:, :1] + taps)[:, None, :, None]
        columns = (start[:, 1:] + taps)[:, None, None, :]
        padded = F.pad(view, (self.shift,) * 4, mode="reflect")
        return padded.take_along_dim(rows, 2).take_along_dim(columns, 3)
