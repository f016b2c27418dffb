"""AttentionOverlap: whether a class token attends to the thing in the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.source import DataSource, ImageSpec
from unlabeled.evaluators.evaluator import Figure, Measure, device_of
from unlabeled.features import batches

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def top_mass(weight: Float[Tensor, "*B N"], *, share: float) -> Bool[Tensor, "*B N"]:
    """The fewest places that hold ``share`` of the mass (DINO, section 4.2.2)."""
    value, order = weight.sort(dim=-1, descending=True)
    before = value.cumsum(-1) - value
    inside = before < share * value.sum(-1, keepdim=True)
    return torch.zeros_like(inside).scatter(-1, order, inside)


def jaccard(one: Bool[Tensor, "*B N"], other: Bool[Tensor, "*B N"]) -> Float[Tensor, "*B"]:
    """``|A and B| / |A or B|``, 1 where both are empty."""
    both, either = (one & other).sum(-1), (one | other).sum(-1)
    return torch.where(either > 0, both / either.clamp_min(1), 1.0)


@dataclass(frozen=True, kw_only=True)
class AttentionOverlap:
    """Jaccard index of the patches that hold 60 % of the attention with the thing's patches.

    Of each image the head that overlaps best, as in DINO (section 4.2.2). The thing is what is not
    background, for data on plain ground: a patch belongs to it where a quarter of its pixels differ
    from the image's corners. The floor without a network is all patches.

    Args:
        share: of the mass.
        images: of the test split that are judged.
    """

    share: float = 0.6
    images: int = 2000
    name: str = "attention"
    needs: str = "attention"
    every: int | None = None
    protocol: str = "attention/jaccard60-v1"

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Judge the first images of the test split."""
        found = []
        for x, grid, weight in self._seen(predict, data):
            chosen = top_mass(weight, share=self.share)
            found.append(jaccard(chosen, things(x, grid)[:, None]).amax(1))
        return [_measure(torch.cat(found))]

    def plain(self, data: DataSource) -> list[Measure]:
        """All patches of a grid of 4 x 4."""
        spec = data.spec()
        found = []
        for x, _ in batches(data, "test", spec, batch_size=500):
            thing = things(x, 4)
            found.append(jaccard(torch.ones_like(thing), thing))
            if sum(map(len, found)) >= self.images:
                break
        return [_measure(torch.cat(found)[: self.images])]

    def figures(self, predict: Any, data: DataSource) -> list[Figure]:
        """A few images beside the attention of each head."""
        spec = data.spec()
        x, grid, weight = next(iter(self._seen(predict, data)))
        picture = _picture(x[:6], spec)
        heads = weight[:6].unflatten(2, (grid, grid))
        heads = heads / heads.amax((2, 3), keepdim=True)
        heads = F.interpolate(heads, size=picture.shape[-2:], mode="nearest")
        rows = [
            torch.cat([image, *(one.expand_as(image) for one in each[:, None])], 2)
            for image, each in zip(picture, heads, strict=True)
        ]
        sheet = torch.cat(rows, 1)
        zoom = max(1, 96 // picture.shape[-1])
        sheet = sheet.repeat_interleave(zoom, 1).repeat_interleave(zoom, 2)
        return [Figure("Images, and what each head of the class token attends to", sheet[None])]

    @torch.no_grad()
    def _seen(self, predict: Any, data: DataSource) -> Any:
        """Yield prepared images, the grid's side, and attention over its places [B, heads, N]."""
        encoder = predict.__self__
        place = device_of(predict)
        done = 0
        for x, _ in batches(data, "test", encoder.spec, batch_size=500):
            x = x[: self.images - done]
            weight = predict(x.to(place)).float().cpu()[:, :, encoder.prefix :]
            done += len(x)
            yield x, round(weight.shape[-1] ** 0.5), weight
            if done >= self.images:
                return


def things(x: Float[Tensor, "B C H W"], grid: int) -> Bool[Tensor, "B N"]:
    """Which cells of a grid hold the thing: where a quarter of the pixels differ from the corners.

    The ground is the median of the four corners; a pixel differs by a quarter of the image's range.
    """
    corners = torch.stack([x[..., 0, 0], x[..., 0, -1], x[..., -1, 0], x[..., -1, -1]]).median(0)
    apart = (x - corners.values[..., None, None]).abs().amax(1, keepdim=True)
    span = (x.amax((1, 2, 3)) - x.amin((1, 2, 3)))[:, None, None, None]
    filled = F.adaptive_avg_pool2d((apart > 0.25 * span).float(), grid)
    return (filled >= 0.25).flatten(1)


def _picture(x: Tensor, spec: ImageSpec) -> Tensor:
    mean, std = torch.tensor(spec.mean)[:, None, None], torch.tensor(spec.std)[:, None, None]
    plain = (x * std + mean).clamp(0, 1)
    return plain if plain.shape[1] == 3 else plain[:, :1]


def _measure(index: Tensor) -> Measure:
    value = 100 * float(index.mean())
    return Measure(metric="jaccard", value=value, test=len(index), hits=index)
