"""A tiny data source and a tiny encoder, for tests of features and evaluators."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from unlabeled.data.source import DataSource, ImageSpec
from unlabeled.encoders.encoder import Encoder
from unlabeled.features import Features


class FakeSamples:
    def __init__(self, images: Tensor, label: Tensor | None, path: list[str] | None) -> None:
        self.images, self.label, self.path = images, label, path

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, places):
        batch = {"views": [self.images[places]], "index": torch.tensor(places)}
        if self.label is not None:
            batch["label"] = self.label[places]
        if self.path is not None:
            batch["path"] = [self.path[place] for place in places]
        return batch


@dataclass(frozen=True)
class FakeData(DataSource):
    """Noisy images of ``classes`` fixed patterns; ``labeled=False`` has no test split."""

    train: int = 90
    test: int = 40
    kinds: int = 3
    noise: float = 0.6
    labeled: bool = True
    paths: bool = False
    side: int = 8
    reads: list[str] = field(default_factory=list, compare=False, repr=False)

    @property
    def name(self) -> str:
        return "fake"

    def size(self, split: str) -> int:
        return {"train": self.train, "test": self.test}[split]

    def split(self, name: str) -> FakeSamples:
        if name == "test" and not self.labeled:
            raise ValueError("fake has no split 'test': it has train")
        self.reads.append(name)
        generator = torch.Generator().manual_seed(0)
        pattern = torch.randn(self.kinds, 1, self.side, self.side, generator=generator)
        generator.manual_seed(1 if name == "train" else 2)
        count = self.size(name)
        label = torch.arange(count) % self.kinds
        noise = torch.randn(count, 1, self.side, self.side, generator=generator)
        path = [f"{name}/{place}.png" for place in range(count)] if self.paths else None
        images = pattern[label] + self.noise * noise
        return FakeSamples(images, label if self.labeled else None, path)

    def spec(self) -> ImageSpec:
        return ImageSpec(channels=1, size=self.side, mean=(0.0,), std=(1.0,))

    def prepare(self, spec):
        return lambda batch: batch["views"][0].clone()


class FakeEncoder(Encoder):
    """A convolution, a batch norm, the mean over positions."""

    def __init__(self, spec: ImageSpec, dim: int = 6) -> None:
        super().__init__()
        self.spec, self.dim = spec, dim
        self.conv = nn.Conv2d(spec.channels, dim, 3, 2, 1)
        self.norm = nn.BatchNorm2d(dim)
        self.passes = 0

    def maps(self, x: Tensor) -> Tensor:
        self.passes += 1
        return self.norm(self.conv(x)).relu()

    def local(self, x: Tensor) -> Tensor:
        return self.maps(x).flatten(2).mT

    def pool(self, local: Tensor) -> Tensor:
        return local.mean(1)


def blobs(
    count: int, *, classes: int = 4, width: int = 10, apart: float = 1.0, seed: int = 0
) -> Features:
    """Gaussian blobs around centers that do not depend on the seed; dimensions differ in scale."""
    generator = torch.Generator().manual_seed(99)
    centers = apart * torch.randn(classes, width, generator=generator)
    scale = torch.logspace(-2, 2, width)
    generator.manual_seed(seed)
    label = torch.arange(count) % classes
    x = centers[label] + torch.randn(count, width, generator=generator)
    return Features(x * scale + 3, label)
