"""LinearSegmentation: classes of pixels, read off frozen maps by one linear layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.annotated import AnnotatedSource, Annotations
from unlabeled.data.source import DataSource
from unlabeled.evaluators.evaluator import Figure, Measure, device_of
from unlabeled.features import batches

COLORS = (
    (40, 40, 40), (228, 60, 60), (60, 160, 60), (70, 110, 230), (240, 200, 60), (170, 80, 200),
    (80, 200, 200),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LinearSegmentation:
    """Mean intersection over union of a 1 x 1 convolution on frozen maps, ground included.

    Maps are standardized by channel, logits enlarged bilinearly to the pixels, the layer trained by
    Adam on cross-entropy. The floor without a network is the same layer on the pixels of an 8 x 8
    grid of patches. Classes that are nowhere in train or test are left out.

    Args:
        images: of train that the layer is trained on; test is judged whole.
        epochs: over them.
        lr: at first; falls by half a cosine.
        batch: images.
        seed: of order and layer.
    """

    images: int = 2000
    epochs: int = 15
    lr: float = 0.01
    batch: int = 50
    seed: int = 0
    name: str = "segmentation"
    needs: str = "maps"
    every: int | None = None
    protocol: str = "segmentation/linear-v1"

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Train the layer on "train", judge "test"."""
        found, truth = self.segmented(predict, annotated(data))
        return [mean_iou_measure(found, truth.maps, train=self._count(data))]

    def plain(self, data: DataSource) -> list[Measure]:
        """The same layer on patches of pixels."""
        return self.judge(patches, data)

    def figures(self, predict: Any, data: DataSource) -> list[Figure]:
        """Test images, their true maps and what a layer finds that fewer images trained."""
        source = annotated(data)
        shorter = replace(self, images=min(self.images, 500))
        found, truth = shorter.segmented(predict, source)
        images = source.split("test").__getitems__(list(range(8)))["views"][0].float() / 255
        rows = [images, _colored(truth.maps[:8]), _colored(found[:8])]
        sheet = torch.cat([torch.cat(row.unbind(0), 2) for row in rows], 1)
        return [Figure("Test images, true classes, classes that a linear layer finds", sheet[None])]

    @torch.enable_grad()
    def segmented(self, predict: Any, source: AnnotatedSource) -> tuple[Tensor, Annotations]:
        """[N, H, W] uint8 of "test", as `Annotations.maps`, and the truth."""
        place = device_of(predict)
        count = self._count(source)
        train = maps_of(predict, source, "train", most=count).to(place)
        target = source.annotations("train").maps[:count].long().to(place)
        mean = train.mean((0, 2, 3), keepdim=True)
        std = train.std((0, 2, 3), keepdim=True).clamp_min(1e-6)
        classes = len(source.things) + 1
        generator = torch.Generator().manual_seed(self.seed)
        layer = nn.Conv2d(train.shape[1], classes, 1).to(place)
        nn.init.zeros_(layer.weight)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
        optimizer = torch.optim.Adam(layer.parameters(), lr=self.lr)
        steps = self.epochs * -(-count // self.batch)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(self.epochs):
            for rows in torch.randperm(count, generator=generator).split(self.batch):
                logits = layer((train[rows.to(place)] - mean) / std)
                large = enlarged(logits, target.shape[1:])
                loss = F.cross_entropy(large, target[rows.to(place)])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                falling.step()
        truth = source.annotations("test")
        test = maps_of(predict, source, "test", most=len(truth.maps))
        with torch.no_grad():
            parts = [
                enlarged(layer((part.to(place) - mean) / std), truth.maps.shape[1:]).argmax(1)
                for part in test.split(self.batch)
            ]
        return torch.cat(parts).byte().cpu(), truth

    def _count(self, data: DataSource) -> int:
        return min(self.images, data.size("train"))


def mean_iou(found: Tensor, truth: Tensor) -> tuple[float, list[float | None]]:
    """Mean over classes of ``|both| / |either|`` over all pixels, and each (None: nowhere)."""
    classes = int(max(int(found.max()), int(truth.max()))) + 1
    pairs = (truth.long() * classes + found.long()).flatten()
    table = pairs.bincount(minlength=classes**2).view(classes, classes).double()
    both = table.diagonal()
    either = table.sum(0) + table.sum(1) - both
    each = [
        float(one / whole) if whole > 0 else None for one, whole in zip(both, either, strict=True)
    ]
    there = [value for value in each if value is not None]
    return sum(there) / len(there), each


def mean_iou_measure(found: Tensor, truth: Tensor, *, train: int) -> Measure:
    """Return `mean_iou` in percent, with each class in its details."""
    value, each = mean_iou(found, truth)
    return Measure(
        metric="miou", value=100 * value, train=train, test=len(truth), details={"iou": each}
    )


def annotated(data: DataSource) -> AnnotatedSource:
    """Return the data if the classes of its pixels are known, else raise a ValueError."""
    if not isinstance(data, AnnotatedSource):
        raise ValueError(
            f"{data.name} has no classes of pixels: judge on shapes or on a folder in COCO's "
            "format (--data)"
        )
    return data


@torch.no_grad()
def maps_of(predict: Any, source: AnnotatedSource, split: str, *, most: int) -> Tensor:
    """[N, d, h, w] float32 of the first images."""
    place, parts, count = device_of(predict), [], 0
    for x, _ in batches(source, split, source.spec(), batch_size=250):
        parts.append(predict(x.to(place)).float().cpu())
        count += len(x)
        if count >= most:
            break
    return torch.cat(parts)[:most]


def inputs(source: AnnotatedSource, split: str, places: list[int]) -> Tensor:
    """[B, C, H, W]: the images at these places, normalized."""
    x: Tensor = source.prepare(source.spec())(source.split(split).__getitems__(places))
    return x


def patches(x: Tensor) -> Tensor:
    """[B, C p^2, 8, 8]: the pixels of each patch."""
    patch = x.shape[2] // 8
    return F.unfold(x, patch, stride=patch).unflatten(2, (8, 8))


def enlarged(logits: Tensor, size: torch.Size) -> Tensor:
    """[B, K, h, w] -> [B, K, H, W], bilinearly."""
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)


def _colored(maps: Tensor) -> Tensor:
    palette = torch.tensor(COLORS)[maps.long() % len(COLORS)]
    return palette.permute(0, 3, 1, 2).float() / 255
