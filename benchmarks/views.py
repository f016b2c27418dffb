"""Two SimCLR views of a batch of uint8 RGB images, each sample with its own parameters.

32, 96, 224: side of the views; the images have 32, 96 and 256 px. The parameters are SimCLR's
(crop 0.08 to 1, jitter 0.8, 0.8, 0.8, 0.2, gray 0.2, blur 0.5), drawn within the time. lightly's
transform takes PIL images as its users give them; torchvision's v2 runs sample by sample. The
peers' blur reaches as far as ours: they do no more work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from _common import OWN, arguments, paired, peer, report
from torch import Tensor
from torch.nn.functional import interpolate

from unlabeled.data.source import ImageSpec
from unlabeled.views import kernel
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import TwoViews, simclr_augment

CASES = ("32", "96", "224")
SOURCE = {32: 32, 96: 96, 224: 256}
BATCH = {32: 256, 96: 128, 224: 32}
GOALS = {32: {"lightly": 30, "kornia": 10}, 96: {"lightly": 12}, 224: {"lightly": 12}}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pictures(count: int, side: int) -> Tensor:
    """[count, 3, side, side] uint8: smooth shapes with some grain, as photos have them."""
    generator = torch.Generator().manual_seed(0)
    parts = [
        weight
        * interpolate(
            torch.rand(count, 3, cells, cells, generator=generator), (side, side), mode="bicubic"
        )
        for cells, weight in ((4, 0.6), (16, 0.3), (side, 0.1))
    ]
    return (sum(parts).clamp(0, 1) * 255).byte()


def cases(size: int, count: int) -> dict[str, Callable[[], object] | None]:
    """Every contestant on the same images; None where it is not installed."""
    images, index = pictures(count, SOURCE[size]), torch.arange(count)
    spec = ImageSpec(channels=3, size=size, mean=MEAN, std=STD)
    views = TwoViews(simclr_augment(interpolation="bilinear")).fit(spec)

    def ours() -> object:
        return views({"views": [images], "index": index}, SampleGenerator(0, 0, index))

    def ours_in_torch() -> object:
        with patch.object(kernel, "available", return_value=False):
            return ours()

    ready = torch.empty(2 * count, 3, size, size)
    taps = 2 * max(1, size // 20) + 1
    return {
        OWN: ours,
        "our torch path": ours_in_torch,
        "lightly": lightly(images, size),
        "torchvision v2": torchvision(images, size, taps),
        "kornia": kornia(images, size, taps),
        "writing the views": lambda: ready.fill_(1.0),
    }


def lightly(images: Tensor, size: int) -> Callable[[], object] | None:
    if peer("lightly") is None:
        return None
    from lightly.transforms import SimCLRTransform
    from PIL import Image

    pil = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    transform = SimCLRTransform(input_size=size)

    def run() -> object:
        pairs = [transform(image) for image in pil]
        return [torch.stack(column) for column in zip(*pairs, strict=True)]

    return run


def torchvision(images: Tensor, size: int, taps: int) -> Callable[[], object] | None:
    if peer("torchvision") is None:
        return None
    from torchvision.transforms import v2

    transform = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.08, 1), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(taps, (0.1, 2.0))], 0.5),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return lambda: [torch.stack([transform(image) for image in images]) for _ in range(2)]


def kornia(images: Tensor, size: int, taps: int) -> Callable[[], object] | None:
    if peer("kornia") is None:
        return None
    import kornia.augmentation as K

    transform = K.AugmentationSequential(
        K.RandomResizedCrop((size, size), scale=(0.08, 1.0)),
        K.RandomHorizontalFlip(),
        K.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        K.RandomGrayscale(p=0.2),
        K.RandomGaussianBlur((taps, taps), (0.1, 2.0), p=0.5),
        K.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        data_keys=["input"],
    )
    return lambda: transform(images.float().div_(255).repeat(2, 1, 1, 1))


def main() -> None:
    options = arguments(__doc__, cases=CASES)
    for size in map(int, options.cases):
        count = BATCH[size] // 8 if options.quick else BATCH[size]
        runs: Any = paired(cases(size, count), options, rounds=7)
        report(
            f"two views of {count} images, {SOURCE[size]} -> {size} px",
            runs,
            peers=("lightly", "torchvision v2", "kornia"),
            limit="writing the views",
            over_peer=GOALS[size],
            per_call=count,
            unit="images",
            note=f"{options.threads} threads",
        )


if __name__ == "__main__":
    main()
