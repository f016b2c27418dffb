"""Views of images that come with neighbors: each with one that the data says is similar."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace

import torch
from torch import Tensor

from unlabeled.data.source import ImageSpec
from unlabeled.method import Batch
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import raw_images


@dataclass(frozen=True)
class NeighborPairs:
    """Each image, and one of its neighbors or itself, both shifted sideways at random.

    The partner is each of the k neighbors, or the image itself where there are shifts, with equal
    probability, and each shift of each of the two is, too: the graph of DrLIM's section 3.2, in
    which an image is similar to its shifted copies, to its neighbors, and to theirs. Without
    shifts it is that of section 3.1.

    Args:
        shifts: pixels to the right, 0 included; black enters from the border.
        spec: what the encoder gets; set by `fit`.

    Raises:
        ValueError: no shifts; at the first use, data without neighbors.
    """

    shifts: tuple[int, ...] = (0,)
    _: KW_ONLY
    spec: ImageSpec | None = None

    def __post_init__(self) -> None:
        if not self.shifts:
            raise ValueError("shifts is empty: give (0,) for images that stay where they are")

    def fit(self, spec: ImageSpec) -> NeighborPairs:
        """Return a copy with the spec."""
        return replace(self, spec=spec)

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """Return a new batch with two views [B, C, H, W] and the places of all neighbors."""
        if self.spec is None:
            raise ValueError("views have no spec: call fit(data.spec()) first")
        if "neighbor_images" not in batch:
            raise ValueError("the data has no neighbors: wrap it, Neighbors(source, k=5)")
        images, near = raw_images(batch), batch["neighbor_images"]
        if not isinstance(images, Tensor):
            raise ValueError("images differ in size: give a source of one size")
        if len(self.shifts) > 1:
            near = torch.cat([near, images[:, None]], 1)
        chosen = generator.integers(high=near.shape[1])
        partners = near[torch.arange(len(near), device=near.device), chosen]
        views = [self._view(each, generator) for each in (images, partners)]
        return {"views": views, "index": batch["index"], "neighbors": batch["neighbors"]}

    def _view(self, images: Tensor, generator: SampleGenerator) -> Tensor:
        assert self.spec is not None
        shifts = torch.tensor(self.shifts, device=images.device)
        by = shifts[generator.integers(high=len(self.shifts))]
        view = shifted(images, by).float()
        if images.dtype == torch.uint8:
            view /= 255
        mean, std = view.new_tensor(self.spec.mean), view.new_tensor(self.spec.std)
        return view.sub_(mean[:, None, None]).div_(std[:, None, None])


def shifted(images: Tensor, by: Tensor) -> Tensor:
    """[B, C, H, W]: each image moved ``by`` [B] pixels to the right; zeros enter."""
    place = torch.arange(images.shape[-1], device=images.device) - by[:, None]
    inside = (place >= 0) & (place < images.shape[-1])
    place = place.clamp(0, images.shape[-1] - 1)[:, None, None].expand_as(images)
    return images.gather(3, place) * inside[:, None, None]
