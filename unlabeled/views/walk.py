"""WalkPatches: the frames of a clip as grids of patches, each jittered on its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unlabeled.data.videos import ClipSpec
from unlabeled.method import Batch
from unlabeled.ops.patches import cut_patches
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.resize import BOX_NUMBERS, crop_resize, draw_boxes

RATIO = (0.7, 1.3)


@dataclass(frozen=True, kw_only=True)
class WalkPatches:
    """``frames`` frames in a row of each clip, as overlapping patches (CRW, section 3 and code).

    Each frame is cropped to a share of its area and resized, cut into a grid, and each patch
    cropped and resized again, so that neither borders nor places tell which one it is. ``dropped``
    says which edges between the patches of neighboring frames are not taken.

    Args:
        frames: T; where in the clip they begin is drawn.
        patch: side in px.
        stride: between patches.
        frame_scale: share of the frame's area that is kept.
        patch_scale: share of the patch's area.
        drop: probability that an edge is dropped.
        spec: what the encoder gets; set by `fit`.
    """

    frames: int
    patch: int
    stride: int
    frame_scale: tuple[float, float] = (0.8, 0.95)
    patch_scale: tuple[float, float] = (0.7, 0.9)
    drop: float = 0.1
    spec: ClipSpec | None = None

    def __post_init__(self) -> None:
        if self.frames < 2 or not 0 <= self.drop < 1:
            raise ValueError(
                f"frames is {self.frames}, drop {self.drop}: give 2 or more, and a share below 1"
            )

    def fit(self, spec: ClipSpec) -> WalkPatches:
        """Return a copy with the facts of the data.

        Raises:
            ValueError: clips are shorter than ``frames``.
        """
        if spec.frames < self.frames:
            raise ValueError(
                f"clips have {spec.frames} frames, a walk takes {self.frames}: give longer clips "
                "or views.frames=..."
            )
        return replace(self, spec=spec)

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """Return a new batch with patches [B, T, N, C, p, p] and ``dropped`` [B, 2 T - 2, N, N]."""
        if self.spec is None:
            raise ValueError("views have no spec: call fit(data.spec()) first")
        (clips,) = batch["views"]
        image = self.spec.image
        start = generator.integers(high=clips.shape[1] - self.frames + 1)
        row = torch.arange(len(clips), device=clips.device)[:, None]
        chosen = clips[row, start[:, None] + torch.arange(self.frames, device=clips.device)]
        frames = self._cropped(
            chosen.flatten(0, 1), generator.split(self.frames), self.frame_scale, image.size
        )
        grid = cut_patches(frames, patch=self.patch, stride=self.stride).flatten(1, 2)
        nodes = grid.shape[1]
        patches = self._cropped(
            grid.flatten(0, 1).contiguous(),
            generator.split(self.frames * nodes),
            self.patch_scale,
            self.patch,
        )
        mean, std = (patches.new_tensor(part)[:, None, None] for part in (image.mean, image.std))
        patches = ((patches - mean) / std).view(len(clips), self.frames, nodes, *patches.shape[1:])
        dropped = generator.uniform(2 * (self.frames - 1), nodes, nodes) < self.drop
        result: Batch = {**batch, "views": [patches], "dropped": dropped}
        return result

    def _cropped(
        self,
        images: Tensor,
        generator: SampleGenerator,
        scale: tuple[float, float],
        size: int,
    ) -> Tensor:
        sides = images.new_tensor(images.shape[-2:], dtype=torch.float64).expand(len(images), 2)
        box = draw_boxes(sides, generator.uniform(BOX_NUMBERS), scale=scale, ratio=RATIO)
        still = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        return crop_resize(images, box, still, size=size, interpolation="bilinear")
