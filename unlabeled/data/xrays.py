"""Chest X-rays that are drawn: patients with several images and five findings, for MICLe."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from unlabeled.data.images import ArraySamples, ImageSource, no_split
from unlabeled.data.source import ImageSpec, Samples
from unlabeled.method import Batch
from unlabeled.views.generator import SampleGenerator

FINDINGS = ("cardiomegaly", "effusion", "consolidation", "edema", "atelectasis")
SPLITS = ("train", "test")
PATIENT, PICTURE = -3, -4  # seeds; runs have theirs from 0
BLOCK = 512


@dataclass(frozen=True)
class XRays(ImageSource):
    """Drawn X-rays of patients with 1 to ``most`` images; a sample is a patient.

    Dark lungs with ribs and a bright heart in a gray chest. Each of five findings is there with
    probability 0.3, independently: a wide heart, a fluid level in one lung, a dense patch, haze
    around both hila, one lung collapsed to below a plate. Images of a patient share anatomy and
    findings and differ in pose, exposure and noise. Batches hold all images as ``instances``, and
    ``tags`` [B, 5]; of the training tags a tenth is unknown, as CheXpert's uncertain ones. A
    patient follows from its place alone, so splits share none.

    Args:
        patients: of "train".
        test_patients: of "test".
        most: images of a patient; 1 to so many are equally likely.
        image_size: side in pixels.

    Raises:
        ValueError: sizes below 1, or below 16 px.
    """

    patients: int = 5000
    test_patients: int = 2000
    _: KW_ONLY
    most: int = 4
    image_size: int = 32

    def __post_init__(self) -> None:
        if min(self.patients, self.test_patients, self.most) < 1 or self.image_size < 16:
            raise ValueError(
                f"{self.patients} and {self.test_patients} patients, {self.most} images of "
                f"{self.image_size} px: give at least 1, 1, 1 and 16"
            )

    @property
    def name(self) -> str:
        """``xrays``."""
        return "xrays"

    def size(self, split: str) -> int:
        """Return the number of patients."""
        if split not in SPLITS:
            raise no_split(self.name, split, SPLITS)
        return self.patients if split == "train" else self.test_patients

    def spec(self) -> ImageSpec:
        """Return one channel and its statistics."""
        return ImageSpec(channels=1, size=self.image_size, mean=(0.33,), std=(0.24,))

    def at(self, side: int) -> XRays:
        """Return the same patients at ``side`` pixels."""
        return replace(self, image_size=side)

    def split(self, name: str) -> Samples:
        """Return "train" or "test", patient by patient."""
        self.size(name)
        return PatientSamples(_drawn(self, name))

    def plain(self, spec: ImageSpec) -> Pictures:
        """Return the images one by one, as patients are judged by all of theirs."""
        return Pictures(self.at(spec.size))


@dataclass(frozen=True)
class Pictures(ImageSource):
    """The images of `XRays` one by one, with ``tags`` and ``case``, the place of the patient."""

    source: XRays

    @property
    def name(self) -> str:
        """``xrays``."""
        return self.source.name

    def size(self, split: str) -> int:
        """Return the number of images."""
        return len(self.split(split))

    def spec(self) -> ImageSpec:
        """Return that of the patients."""
        return self.source.spec()

    def split(self, name: str) -> PictureSamples:
        """Return "train" or "test"."""
        self.source.size(name)
        return PictureSamples(_drawn(self.source, name))


@dataclass(frozen=True)
class Drawn:
    """A split in memory: images [N, 1, S, S] uint8 by patient, tags [P, 5], first image [P + 1]."""

    images: Tensor
    tags: Tensor
    start: Tensor


class PatientSamples:
    """A split whose samples are patients."""

    def __init__(self, drawn: Drawn) -> None:
        self.drawn = drawn

    def __len__(self) -> int:
        return len(self.drawn.tags)

    def __getitems__(self, places: list[int]) -> Batch:
        """Read all images of some patients; ``views`` holds the first of each."""
        index = torch.as_tensor(places, dtype=torch.int64)
        first, last = self.drawn.start[index].tolist(), self.drawn.start[index + 1].tolist()
        images = self.drawn.images
        instances = [images[at:end] for at, end in zip(first, last, strict=True)]
        batch = Batch(views=[images[first]], index=index, instances=instances)
        batch["tags"] = self.drawn.tags[index]
        return batch


class PictureSamples:
    """A split whose samples are images."""

    def __init__(self, drawn: Drawn) -> None:
        self.drawn = drawn
        count = drawn.start.diff()
        self.case = torch.arange(len(count)).repeat_interleave(count)
        self.images = ArraySamples(drawn.images)

    def __len__(self) -> int:
        return len(self.case)

    def __getitems__(self, places: list[int]) -> Batch:
        """Read some images."""
        batch = self.images.__getitems__(places)
        batch["case"] = self.case[batch["index"]]
        batch["tags"] = self.drawn.tags[batch["case"]]
        return batch


@lru_cache(maxsize=4)
def _drawn(source: XRays, split: str) -> Drawn:
    places = torch.arange(source.size(split))
    images, tags, counts = [], [], []
    for block in places.split(BLOCK):
        patient = SampleGenerator(PATIENT, SPLITS.index(split), block)
        count = 1 + patient.integers(high=source.most)
        there = (patient.uniform(len(FINDINGS)) < 0.3).float()
        case = torch.arange(len(block)).repeat_interleave(count)
        number = torch.arange(len(case)) - (count.cumsum(0) - count)[case]
        anatomy = patient.uniform(15)
        picture = SampleGenerator(PICTURE, SPLITS.index(split), block[case] * source.most + number)
        drawn = draw(anatomy[case], there[case], picture, side=source.image_size)
        if split == "train":
            there = there.masked_fill(patient.uniform(len(FINDINGS)) < 0.1, torch.nan)
        images.append((drawn * 255).round().to(torch.uint8))
        tags.append(there)
        counts.append(count)
    start = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cat(counts).cumsum(0)])
    return Drawn(torch.cat(images), torch.cat(tags), start)


# The drawing -------------------------------------------------------------------------------------


def draw(anatomy: Tensor, there: Tensor, generator: SampleGenerator, *, side: int) -> Tensor:
    """[B, 15] in [0, 1), [B, 5] in {0, 1} -> [B, 1, side, side] in [0, 1].

    ``generator`` gives each image its pose (up to 15 degrees, a tenth of the side, 0.8 to 1.1 in
    scale), exposure and noise.
    """
    unit = generator.uniform(6)[:, :, None, None]
    angle, scale = (unit[:, 0] - 0.5) * torch.pi / 6, 0.8 + 0.3 * unit[:, 1]
    axis = (torch.arange(side) + 0.5) / side * 2 - 1
    down, right = torch.meshgrid(axis, axis, indexing="ij")
    moved_x, moved_y = right - 0.4 * (unit[:, 2] - 0.5), down - 0.4 * (unit[:, 3] - 0.5)
    x = (angle.cos() * moved_x + angle.sin() * moved_y) / scale
    y = (angle.cos() * moved_y - angle.sin() * moved_x) / scale
    absorbed = _chest(x, y, anatomy[:, :, None, None], there[:, :, None, None])
    exposed = absorbed * (0.7 + 0.6 * unit[:, 4]) + 0.2 * (unit[:, 5] - 0.5)
    return (exposed + 0.05 * generator.normal(side, side)).clamp(0, 1)[:, None]


def _chest(x: Tensor, y: Tensor, anatomy: Tensor, there: Tensor) -> Tensor:
    """What a chest absorbs at [B, S, S] places: x to the right and y down, the picture is +-1."""
    wide, fluid, patch, haze, plate = there.unbind(1)
    part = anatomy.unbind(1)
    body = _ellipse(x, y, 0.0, 0.1, 0.85 + 0.1 * part[0], 1.1)
    half = 0.3 + 0.06 * part[1]
    tall = 0.6 + 0.1 * part[2]
    sick = torch.where(part[3] < 0.5, -1.0, 1.0)  # the lung of the findings that have a side
    lungs = torch.zeros_like(x)
    filled = torch.zeros_like(x)
    for lung in (-1.0, 1.0):
        own = (sick == lung).to(x.dtype)
        top = (0.1 + 0.15 * part[14]) * plate * own  # a collapsed lung begins lower
        shape = _ellipse(x, y, 0.43 * lung, top / 2, half, tall - top / 2)
        lungs = lungs + shape
        level = _step(y - (0.25 + 0.3 * part[4]))
        filled = filled + fluid * own * level * shape
        filled = filled + plate * own * shape * 0.6 * _line(y - (top - tall + 0.3), 0.035)
    ribs = 0.07 * (1 + torch.sin(24 * y + 6 * x.abs() + 6 * part[5]))
    width = (0.18 + 0.1 * part[6]) * (1 + (0.25 + 0.25 * part[7]) * wide)
    heart = _ellipse(x, y, 0.1, 0.32, width, 0.3 + 0.05 * part[8])
    blob = _bump(
        x - sick * (0.35 + 0.15 * part[9]), y - (0.7 * part[10] - 0.4), 0.1 + 0.05 * part[11]
    )
    hila = _bump(x.abs() - 0.25, y + 0.02, 0.25 + 0.05 * part[12])
    air = lungs * (1 - filled)
    density = 0.62 * body - air * (0.42 - ribs * lungs)
    density = density + air * (0.28 * patch * blob + (0.05 + 0.06 * part[13]) * haze * hila)
    return torch.maximum(density, 0.7 * heart * body)


def _step(distance: Tensor) -> Tensor:
    return torch.sigmoid(distance / 0.02)


def _ellipse(x: Tensor, y: Tensor, cx: float | Tensor, cy: float | Tensor, a: float | Tensor,
             b: float | Tensor) -> Tensor:  # fmt: skip
    return torch.sigmoid((1 - ((x - cx) / a) ** 2 - ((y - cy) / b) ** 2) / 0.08)


def _bump(x: Tensor, y: Tensor, size: Tensor) -> Tensor:
    return torch.exp(-(x**2 + y**2) / (2 * size**2))


def _line(distance: Tensor, width: float) -> Tensor:
    return torch.exp(-((distance / width) ** 2))
