"""Views of images: TwoViews, Plain (nothing random), and the augmentations of the papers."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from unlabeled.data.source import ImageSpec
from unlabeled.method import Batch
from unlabeled.views import kernel
from unlabeled.views.augment import Augment, check_images
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.resize import Images, crop_resize, sides

__all__ = [
    "Augment",
    "OneView",
    "Plain",
    "TwoViews",
    "barlow_augments",
    "byol_augments",
    "draw_views",
    "moco_v1_augment",
    "moco_v2_augment",
    "raw_images",
    "resized",
    "simclr_augment",
]


def raw_images(batch: Batch) -> Images:
    """Return the one raw item of a batch, or raise a ValueError."""
    if len(batch["views"]) != 1:
        raise ValueError(f"batch has {len(batch['views'])} views: give the raw batch, which has 1")
    return batch["views"][0]


@dataclass(frozen=True)
class OneView:
    """One random view of each image, for methods whose positives do not come from a second one.

    Args:
        augment: T.
        spec: what the encoder gets; set by `fit`.
    """

    augment: Augment
    _: KW_ONLY
    spec: ImageSpec | None = None

    def fit(self, spec: ImageSpec) -> OneView:
        """Return a copy whose size follows the spec where it is None."""
        augment = self.augment.fit(spec)
        return OneView(augment, spec=resized(spec, augment))

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """Return a new batch with one view [B, C, S, S], its boxes and flips."""
        return draw_views(batch, generator, (self.augment,), self.spec)


@dataclass(frozen=True)
class TwoViews:
    """Two random views of each image, of one distribution or of one each.

    Args:
        first: T.
        second: T'; None is T again, with other random numbers.
        spec: what the encoder gets; set by `fit`.

    Raises:
        ValueError: the views differ in size.
    """

    first: Augment
    second: Augment | None = None
    _: KW_ONLY
    spec: ImageSpec | None = None

    def fit(self, spec: ImageSpec) -> TwoViews:
        """Return a copy whose sizes follow the spec where they are None."""
        first = self.first.fit(spec)
        second = None if self.second is None else self.second.fit(spec)
        if second is not None and second.size != first.size:
            raise ValueError(f"views have sides {first.size} and {second.size}: give one size")
        return TwoViews(first=first, second=second, spec=resized(spec, first))

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """Return a new batch with two views [B, C, S, S], their boxes and flips."""
        return draw_views(batch, generator, (self.first, self.second or self.first), self.spec)


def draw_views(
    batch: Batch,
    generator: SampleGenerator,
    augments: tuple[Augment, ...],
    spec: ImageSpec | None,
) -> Batch:
    """Return a new batch with one view an augment, and their boxes and flips."""
    if spec is None:
        raise ValueError("views have no spec: call fit(data.spec()) first")
    images = raw_images(batch)
    views: list[Tensor] = []
    boxes: list[Tensor] = []
    flips: list[Tensor] = []
    for augment, equal in groupby(augments):
        parameters = augment.draw(images, generator, times=len(list(equal)))
        views += augment.apply(images, parameters, spec).split(len(images))
        boxes += parameters.box.split(len(images))
        flips += parameters.flip.split(len(images))
    result: Batch = {**batch, "views": views, "box": boxes, "flip": flips}
    return result


def resized(spec: ImageSpec, augment: Augment) -> ImageSpec:
    """Return the spec of an augment's views."""
    return spec if augment.size is None else replace(spec, size=augment.size)


WHOLE = 64
"""Images for encoders that take fewer pixels are not cropped: there is no border to spare."""


@dataclass(frozen=True)
class Plain:
    """The view without randomness, for evaluation: a centered square, resized and normalized.

    Cuts out the centered square of ``crop`` times the shorter side and resizes it to the spec's
    size (bilinear, antialiased), as SimCLR's and BYOL's code do; on images of ratio ``size / crop``
    this is the usual "resize to 256, crop 224". Images that have the size already, and all where
    it is under 64 px, keep the whole shorter side.

    Raises:
        ValueError: ``crop`` is not in (0, 1].
    """

    spec: ImageSpec
    _: KW_ONLY
    crop: float = 0.875

    def __post_init__(self) -> None:
        if not 0 < self.crop <= 1:
            raise ValueError(f"crop is {self.crop}: give a share of the side in (0, 1]")

    @property
    def shorter(self) -> int:
        """The shorter side of an image of which no pixel is resized: size / crop."""
        size = self.spec.size
        return size if size < WHOLE else round(size / self.crop)

    def __call__(self, batch: Batch) -> Tensor:
        """[B, C, S, S] float32 of a raw batch."""
        images, spec = raw_images(batch), self.spec
        check_images(images, spec)
        side = sides(images, images[0].device)
        shorter = side.amin(1, keepdim=True)
        whole = (side == spec.size).all(1, keepdim=True) | (spec.size < WHOLE)
        square = torch.where(whole, shorter, (shorter * self.crop).round().clamp(min=1))
        box = torch.cat([((side - square) / 2).floor(), square, square], 1).float()
        flip = torch.zeros(len(box), dtype=torch.bool, device=box.device)
        if box.device.type == "cpu" and kernel.available():
            return kernel.render(images, box, flip, None, spec=spec, interpolation="bilinear")
        view = crop_resize(images, box, flip, size=spec.size, interpolation="bilinear")
        mean, std = view.new_tensor(spec.mean), view.new_tensor(spec.std)
        return view.sub_(mean[:, None, None]).div_(std[:, None, None])


# The augmentations of the papers ------------------------------------------------------------------


def simclr_augment(
    *,
    strength: float = 1.0,
    blur: float = 0.5,
    scale: tuple[float, float] = (0.08, 1.0),
    interpolation: str = "bicubic",
    size: int | None = None,
) -> Augment:
    """SimCLR's T: jitter (0.8, 0.8, 0.8, 0.2) times ``strength``, gray 0.2, blur 0.5.

    Source: arXiv:2002.05709, appendix A. On CIFAR-10 (appendix B.9) strength 0.5 and no blur.
    SwAV (arXiv:2006.09882) uses it at strength 1, with scales (0.14, 1) and (0.05, 0.14) in
    multi-crop.
    """
    return Augment(
        size=size,
        scale=scale,
        interpolation=interpolation,
        brightness=0.8 * strength,
        contrast=0.8 * strength,
        saturation=0.8 * strength,
        hue=0.2 * strength,
        gray=0.2,
        blur=blur,
    )


def moco_v1_augment(*, size: int | None = None) -> Augment:
    """MoCo v1's T: crop (0.2, 1), gray 0.2, then jitter (0.4, 0.4, 0.4, 0.4) always, flip.

    Source: arXiv:1911.05722, section 3.3, and the authors' code for the order.
    """
    return Augment(
        size=size,
        scale=(0.2, 1.0),
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.4,
        jitter=1.0,
        gray=0.2,
        order=("gray", "jitter", "blur", "solarize"),
    )


def moco_v2_augment(*, blur: float = 0.5, size: int | None = None) -> Augment:
    """MoCo v2's and SimSiam's T: crop (0.2, 1), jitter (0.4, 0.4, 0.4, 0.1), gray, blur.

    Source: arXiv:2003.04297, section 3, and the authors' code for the strengths; SimSiam
    (arXiv:2011.10566, section 3) takes it over, and leaves out the blur on CIFAR-10 (appendix D).
    """
    return Augment(
        size=size,
        scale=(0.2, 1.0),
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
        gray=0.2,
        blur=blur,
    )


def byol_augments(*, size: int | None = None) -> tuple[Augment, Augment]:
    """BYOL's T (blur always) and T' (blur 0.1, solarize 0.2), jitter (0.4, 0.4, 0.2, 0.1).

    Source: arXiv:2006.07733, appendix B, table 6. The authors' code adds its brightness jitter
    to the pixels; here, as in the other papers, it is a factor.
    """
    first = Augment(
        size=size,
        interpolation="bicubic",
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.1,
        gray=0.2,
        blur=1.0,
    )
    return first, replace(first, blur=0.1, solarize=0.2)


def barlow_augments(*, size: int | None = None) -> tuple[Augment, Augment]:
    """Barlow Twins' pair, which is BYOL's (arXiv:2103.03230, section 2.2)."""
    return byol_augments(size=size)
