"""Patches: an image as a grid of overlapping patches, each changed on its own."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.source import ImageSpec
from unlabeled.method import Batch
from unlabeled.ops.patches import cut_patches, patch_sizes
from unlabeled.views.augment import Augment
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import raw_images, resized

_WAVES = 4  # control points a side of an elastic deformation


@dataclass(frozen=True)
class Patches:
    """A random view of an image, cut into a grid of patches that are changed one by one.

    The view is one tensor [B, rows, columns, C, p, p], float32, normalized. Each patch is cut
    first and changed afterwards, with random numbers of its own, so that its color and exact
    position say nothing about its neighbors: ``color``, then shear, rotation and elastic
    deformation, then channel dropping, then a random sub-crop with zeros around it.

    Args:
        image: crop and flip of the whole image; its other operations apply to all patches alike.
        color: jitter, gray, blur, solarize of each patch; its crop and flip are not used.
        patch: side of a patch as a share of the image's.
        stride: from one patch to the next, likewise.
        inner: side of the sub-crop as a share of the patch's (CPC: 60 of 64 px).
        warp: probability of each of shear, rotation and elastic deformation (CPC v2: 0.2).
        shear: largest shear.
        rotation: largest angle, in degrees.
        elastic: standard deviation of the elastic displacement, as a share of the patch's side.
        drop: probability that only one of several channels is kept, others set to their mean.
        spec: what the encoder gets; set by `fit`.

    Raises:
        ValueError: a probability or share out of range.
    """

    image: Augment
    color: Augment | None = None
    _: KW_ONLY
    patch: float = 1 / 4
    stride: float = 1 / 8
    inner: float = 60 / 64
    warp: float = 0.0
    shear: float = 0.2
    rotation: float = 20.0
    elastic: float = 0.05
    drop: float = 0.0
    spec: ImageSpec | None = None

    def __post_init__(self) -> None:
        for name in ("warp", "drop"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give a probability in [0, 1]")
        if not 0 < self.inner <= 1:
            raise ValueError(f"inner is {self.inner}: give a share of the patch in (0, 1]")
        patch_sizes(1, patch=self.patch, stride=self.stride)

    def fit(self, spec: ImageSpec) -> Patches:
        """Return a copy whose sizes follow the spec where they are None."""
        image = self.image.fit(spec)
        spec = resized(spec, image)
        color = self.color
        if color is not None:
            side, _ = patch_sizes(spec.size, patch=self.patch, stride=self.stride)
            color = replace(color, size=side, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
        return replace(self, image=image, color=color, spec=spec)

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """Return a new batch with one view, and the crops' boxes and flips."""
        if self.spec is None:
            raise ValueError("views have no spec: call fit(data.spec()) first")
        spec, channels = self.spec, self.spec.channels
        plain = replace(spec, mean=(0.0,) * channels, std=(1.0,) * channels)  # pixels in [0, 1]
        first = spec if self.color is None else plain
        images, box, flip = self.image(raw_images(batch), generator, first)
        side, stride = patch_sizes(spec.size, patch=self.patch, stride=self.stride)
        grid = cut_patches(images, patch=side, stride=stride)
        patches = grid.flatten(0, 2)
        streams = generator.split(grid.shape[1] * grid.shape[2])
        if self.color is not None:
            patches = self.color(patches.contiguous(), streams, spec)[0]
        patches = self._warp(patches, streams)
        patches = self._drop(patches, streams)
        patches = self._shift(patches, streams)
        result: Batch = {
            **batch,
            "views": [patches.view(grid.shape)],
            "box": [box],
            "flip": [flip],
        }
        return result

    def _warp(self, patches: Tensor, streams: SampleGenerator) -> Tensor:
        """Shear, turn and bend some patches, edges mirrored."""
        if self.warp == 0:
            return patches
        numbers = streams.uniform(6 + 2 * _WAVES * _WAVES).to(patches.device)
        on = (numbers[:, :3] < self.warp).float()
        signed = 2 * numbers[:, 3:] - 1
        chosen = on.any(1).nonzero()[:, 0]
        if len(chosen) == 0:
            return patches
        on, signed = on[chosen], signed[chosen]
        shear = self.shear * signed[:, 0] * on[:, 0]
        angle = math.radians(self.rotation) * signed[:, 1] * on[:, 1]
        cosine, sine = angle.cos(), angle.sin()
        zero = torch.zeros_like(angle)
        top = torch.stack([cosine, shear * cosine - sine, zero], 1)
        bottom = torch.stack([sine, shear * sine + cosine, zero], 1)
        picked = patches[chosen]
        place = F.affine_grid(torch.stack([top, bottom], 1), list(picked.shape), False)
        # uniform numbers of variance 1/3; a side is 2 long in the coordinates of grid_sample
        bend = signed[:, 3:].view(-1, 2, _WAVES, _WAVES) * (2 * self.elastic * math.sqrt(3))
        bend = bend * on[:, 2, None, None, None]
        wide = F.interpolate(bend, size=picked.shape[-2:], mode="bicubic", align_corners=True)
        result = patches.clone()
        result[chosen] = F.grid_sample(
            picked, place + wide.permute(0, 2, 3, 1), padding_mode="reflection", align_corners=False
        )
        return result

    def _drop(self, patches: Tensor, streams: SampleGenerator) -> Tensor:
        """Keep one channel of some patches; 0 is the others' mean, as patches are normalized."""
        channels = patches.shape[1]
        if self.drop == 0 or channels == 1:
            return patches
        numbers = streams.uniform(2).to(patches.device)
        kept = (numbers[:, 0, None] * channels).long() == torch.arange(
            channels, device=patches.device
        )
        keep = kept | (numbers[:, 1, None] >= self.drop)
        return patches * keep[:, :, None, None]

    def _shift(self, patches: Tensor, streams: SampleGenerator) -> Tensor:
        """Cut a sub-crop out of each patch and put it into the middle of zeros."""
        side = patches.shape[-1]
        inner = max(1, round(self.inner * side))
        room = side - inner
        if room == 0:
            return patches.contiguous()
        start = streams.integers(2, high=room + 1).to(patches.device)
        taps = torch.arange(inner, device=patches.device)
        rows = (start[:, :1] + taps)[:, None, :, None]
        columns = (start[:, 1:] + taps)[:, None, None, :]
        crop = patches.take_along_dim(rows, 2).take_along_dim(columns, 3)
        before = room // 2
        return F.pad(crop, (before, room - before, before, room - before))
