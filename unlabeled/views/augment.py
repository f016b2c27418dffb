"""Augment: one distribution of random views of images, on whole batches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from unlabeled.data.source import ImageSpec
from unlabeled.views import kernel
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.ops import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    gaussian_blur,
    grayscale,
    solarize,
)
from unlabeled.views.resize import BOX_NUMBERS, Images, crop_resize, draw_boxes, sides

OPERATIONS = ("jitter", "gray", "blur", "solarize")
_JITTERS = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
_CHUNK = {"cpu": 2**19, "cuda": 2**27}  # values of a view worked on at once: they stay in cache


class Parameters(NamedTuple):
    """What was drawn for each sample of a batch; an operation that is off has no effect."""

    box: Tensor
    """[B, 4] float32: top, left, height, width of the crop, whole pixels of the source."""
    flip: Tensor
    """[B] bool."""
    jitter: Tensor
    """[B] bool: whether the four factors apply."""
    factors: Tensor
    """[B, 4] float32: brightness, contrast, saturation, hue shift in turns."""
    keys: Tensor
    """[B, 4] float32: the four apply in ascending order of their keys."""
    gray: Tensor
    """[B] bool."""
    blur: Tensor
    """[B] bool."""
    sigma: Tensor
    """[B] float32, pixels of the view."""
    solarize: Tensor
    """[B] bool."""

    def slice(self, start: int, stop: int) -> Parameters:
        """Return the parameters of samples ``start`` to ``stop``."""
        return Parameters(*(value[start:stop] for value in self))


@dataclass(frozen=True, kw_only=True)
class Augment:
    """One distribution T of random views: crop, flip, jitter, gray, blur, solarize, normalize.

    The crop comes first and the normalization last; ``order`` names the order of the rest. The
    flip commutes with all of them, so it has no place there. Values are clipped to [0, 1] after
    every operation. Jitter, blur and solarize equal torchvision's functions on float images.

    Images of one channel take gray, saturation and hue as the identity, and so do those of
    channels other than three, which have no known color; the same numbers are drawn for all.

    Args:
        size: side of the view in pixels; None takes the spec's (`fit`).
        scale: bounds of the crop's share of the area.
        ratio: bounds of the crop's width over its height.
        interpolation: "bilinear" or "bicubic", both antialiased.
        flip: probability of a left-right mirror.
        brightness: s; the factor is U(max(0, 1 - s), 1 + s), multiplicative.
        contrast: likewise, about the mean luma.
        saturation: likewise, about the pixel's luma.
        hue: h, at most 0.5; the shift is U(-h, h) turns.
        jitter: probability that the four above apply, in random order.
        gray: probability of luma in all channels.
        blur: probability of a Gaussian blur.
        blur_sigma: bounds of its standard deviation, pixels of the view. The kernel reaches
            max(1, size // 20) taps a side, the tenth of the side of SimCLR's code: 23 taps at
            224 px (5 sigma), 9 at 96, 3 at 32, where it nearly is a small box.
        solarize: probability that values above ``solarize_threshold`` are inverted.
        solarize_threshold: in [0, 1].
        order: the operations after the crop, each once.

    Raises:
        ValueError: a probability, bound or name out of range.
    """

    size: int | None = None
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"
    flip: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    jitter: float = 0.8
    gray: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0
    solarize_threshold: float = 0.5
    order: tuple[str, ...] = OPERATIONS

    def __post_init__(self) -> None:
        for name in ("flip", "jitter", "gray", "blur", "solarize"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give a probability in [0, 1]")
        for name in ("brightness", "contrast", "saturation"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: give a strength of at least 0")
        if not 0 <= self.solarize_threshold <= 1:
            raise ValueError(
                f"solarize_threshold is {self.solarize_threshold}: give a value in [0, 1]"
            )
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"hue is {self.hue}: give turns in [0, 0.5]")
        if self.size is not None and self.size < 2:
            raise ValueError(f"size is {self.size}: give at least 2 pixels, or None")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale is {self.scale}: give 0 < low <= high <= 1, shares of area")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio is {self.ratio}: give 0 < low <= high, width over height")
        if not 0 < self.blur_sigma[0] <= self.blur_sigma[1]:
            raise ValueError(f"blur_sigma is {self.blur_sigma}: give 0 < low <= high, in pixels")
        if self.interpolation not in ("bilinear", "bicubic"):
            raise ValueError(f"interpolation is {self.interpolation!r}: give bilinear or bicubic")
        if sorted(self.order) != sorted(OPERATIONS):
            raise ValueError(f"order is {self.order}: name each of {OPERATIONS} once")

    def fit(self, spec: ImageSpec) -> Augment:
        """Return a copy whose size is the spec's where it was None."""
        return self if self.size is not None else replace(self, size=spec.size)

    def __call__(
        self, images: Images, generator: SampleGenerator, spec: ImageSpec
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a view of each image.

        Args:
            images: [B, C, H, W], or B tensors [C, H_i, W_i]; uint8, or float32 in [0, 1].
            generator: one stream of numbers a sample.
            spec: channels and normalization; its size where the own is None.

        Returns:
            views [B, C, S, S] float32, normalized; boxes [B, 4] float32 (top, left, height,
            width in source pixels); flips [B] bool.

        Raises:
            ValueError: the images have other channels than the spec, or are no images.
        """
        parameters = self.draw(images, generator)
        return self.apply(images, parameters, spec), parameters.box, parameters.flip

    def draw(self, images: Images, generator: SampleGenerator, *, times: int = 1) -> Parameters:
        """Draw all that is random, on the images' device; only their heights and widths count.

        With several ``times`` the same numbers as in as many calls; those of the first for all
        images come first.
        """
        if len(generator) != len(images):
            raise ValueError(
                f"generator holds {len(generator)} streams, batch {len(images)} images: "
                "make it of the batch's index"
            )
        numbers = generator.uniform(times, BOX_NUMBERS + 14).transpose(0, 1).flatten(0, 1)
        box = draw_boxes(
            sides(images, numbers.device).repeat(times, 1),
            numbers[:, :BOX_NUMBERS],
            scale=self.scale,
            ratio=self.ratio,
        )
        unit = numbers[:, BOX_NUMBERS:]
        strengths = (self.brightness, self.contrast, self.saturation)
        low = unit.new_tensor([*(max(0.0, 1 - strength) for strength in strengths), -self.hue])
        high = unit.new_tensor([*(1 + strength for strength in strengths), self.hue])
        parameters = Parameters(
            box=box,
            flip=unit[:, 0] < self.flip,
            jitter=unit[:, 1] < self.jitter,
            factors=(high - low) * unit[:, 2:6] + low,
            keys=unit[:, 6:10],
            gray=unit[:, 10] < self.gray,
            blur=unit[:, 11] < self.blur,
            sigma=(self.blur_sigma[1] - self.blur_sigma[0]) * unit[:, 12] + self.blur_sigma[0],
            solarize=unit[:, 13] < self.solarize,
        )
        return Parameters(*(value.to(images[0].device) for value in parameters))

    def apply(self, images: Images, parameters: Parameters, spec: ImageSpec) -> Tensor:
        """[B, C, S, S]: the views that the parameters describe, B a multiple of the images.

        The compiled kernel makes them on the CPU, and torch on other devices or without numba.
        """
        spec = spec if self.size is None else replace(spec, size=self.size)
        check_images(images, spec)
        if images[0].device.type == "cpu" and kernel.available():
            operations = self._operations(parameters, spec)
            return kernel.render(
                images,
                parameters.box,
                parameters.flip,
                operations,
                spec=spec,
                interpolation=self.interpolation,
            )
        times = range(0, len(parameters.box), len(images))
        parts = [parameters.slice(start, start + len(images)) for start in times]
        return torch.cat([self._apply(images, part, spec) for part in parts])

    def _apply(self, images: Images, parameters: Parameters, spec: ImageSpec) -> Tensor:
        """One view of each image by torch: the reference, and the way of GPUs."""
        device, size = images[0].device, spec.size
        views = torch.empty(len(images), spec.channels, size, size, device=device)
        scale = views.new_tensor(spec.std).reciprocal()[:, None, None]
        shift = views.new_tensor(spec.mean).neg()[:, None, None] * scale
        chunk = max(1, _CHUNK.get(device.type, 2**27) // (spec.channels * size * size))
        for start in range(0, len(images), chunk):
            part = parameters.slice(start, start + chunk)
            view = crop_resize(
                images[start : start + chunk],
                part.box,
                part.flip,
                size=size,
                interpolation=self.interpolation,
            )
            for operation in self.order:
                self._operate(operation, view, part)
            torch.add(view.mul_(scale), shift, out=views[start : start + chunk])
        return views

    def _operations(self, parameters: Parameters, spec: ImageSpec) -> kernel.Operations:
        active = self._active(spec.channels)
        turns = parameters.keys[:, active].argsort(1)
        jitters = torch.tensor(active, dtype=torch.int8) + kernel.BRIGHTNESS
        codes, values = [], []
        for operation in self.order:
            if operation == "jitter":
                codes.append(jitters[turns] * parameters.jitter[:, None])
                values.append(parameters.factors[:, active].gather(1, turns))
            elif getattr(self, operation) > 0 and (operation != "gray" or spec.channels == 3):
                codes.append(getattr(parameters, operation)[:, None] * kernel.CODES[operation])
                values.append(parameters.sigma[:, None])
        return kernel.Operations(
            codes=torch.cat(codes, 1).to(torch.int8),
            values=torch.cat(values, 1),
            radius=max(1, spec.size // 20),
            threshold=self.solarize_threshold,
        )

    def _active(self, channels: int) -> list[int]:
        """Places of the jitters that do something."""
        strengths = (self.brightness, self.contrast, self.saturation, self.hue)
        return [
            place
            for place, strength in enumerate(strengths)
            if strength > 0 and (place < 2 or channels == 3)
        ]

    def _operate(self, operation: str, view: Tensor, part: Parameters) -> None:
        if operation == "jitter":
            self._jitter(view, part)
            return
        if getattr(self, operation) == 0 or (operation == "gray" and view.shape[1] != 3):
            return
        chosen = getattr(part, operation).nonzero()[:, 0]
        if len(chosen) == 0:
            return
        images = view[chosen]
        if operation == "gray":
            images = grayscale(images).expand_as(images)
        elif operation == "blur":
            radius = max(1, view.shape[-1] // 20)
            images = gaussian_blur(images, part.sigma[chosen], radius=radius)
        else:
            images = solarize(images, threshold=self.solarize_threshold)
        view[chosen] = images

    def _jitter(self, view: Tensor, part: Parameters) -> None:
        active = self._active(view.shape[1])
        if not active or self.jitter == 0:
            return
        order = part.keys[:, active].argsort(1)
        for turn in range(len(active)):
            for rank, place in enumerate(active):
                chosen = (part.jitter & (order[:, turn] == rank)).nonzero()[:, 0]
                if len(chosen):
                    view[chosen] = _JITTERS[place](view[chosen], part.factors[chosen, place])


def check_images(images: Images, spec: ImageSpec) -> None:
    """Raise a ValueError or TypeError unless these are images that the spec describes."""
    if len(images) == 0:
        raise ValueError("the batch is empty: give at least one image")
    for image in images[:1] if isinstance(images, Tensor) else images:
        if image.ndim != 3 or image.shape[0] != spec.channels:
            raise ValueError(
                f"image has shape {tuple(image.shape)}, spec has {spec.channels} channels: "
                "give images [C, H, W] and a spec of the same data"
            )
        if image.dtype not in (torch.uint8, torch.float32):
            raise TypeError(f"image is {image.dtype}: give uint8, or float32 in [0, 1]")
