"""Alignment, uniformity and LiDAR: what augmented views say of features, without labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from unlabeled.data.order import spread
from unlabeled.data.source import DataSource, ImageSpec
from unlabeled.evaluators.evaluator import Measure, device_of, flatten
from unlabeled.views.augment import Augment
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import raw_images

if TYPE_CHECKING:
    from jaxtyping import Float

CHUNK = 100
BLOCK = 1024
ROUNDING = 1e-6
"""Of float32 networks, relative to the features: what differs by less differs by chance."""
VIEWS = Augment(scale=(0.2, 1.0), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, gray=0.2)
"""SimCLR's views without blur."""


def alignment(z: Float[Tensor, "N Q d"]) -> float:
    """``E |f(x) - f(x')|^2`` over pairs of views of one sample, on unit features.

    Wang & Isola 2020 (arXiv:2005.10242), equation 1 with alpha = 2; 0 where all views agree.

    Raises:
        ValueError: no sample, or fewer than two views.
    """
    _check(z, samples=1)
    z = normalize(z.double(), dim=2)
    views = z.shape[1]
    # the sum over ordered pairs of |a|^2 + |b|^2 - 2 a b, from the sum of the views; features that
    # are zero stay zero, so |a|^2 is not always 1
    apart = views * z.square().sum((1, 2)) - z.sum(1).square().sum(1)
    return float((2 * apart / (views * (views - 1))).mean())


def uniformity(z: Float[Tensor, "N d"], *, t: float = 2.0) -> float:
    """``log E exp(-t |u - v|^2)`` over pairs of different samples, on unit features.

    Wang & Isola 2020, equation 2. 0 for a collapse, also onto the origin; about
    ``-2 t (1 - t / d)`` for features spread evenly over a wide sphere.

    Raises:
        ValueError: fewer than two samples.
    """
    _check(z[:, None], samples=2, views=1)
    z = normalize(z.double(), dim=1)
    count, size = len(z), z.square().sum(1)
    total = z.new_zeros(())
    for start in range(0, count, BLOCK):
        rows = slice(start, start + BLOCK)
        square = size[rows, None] + size - 2 * z[rows] @ z.T
        square.diagonal(start).fill_(torch.inf)  # a sample beside itself is no pair
        total += torch.exp(-t * square).sum()
    return float((total / (count * (count - 1))).log())


def lidar(z: Float[Tensor, "N Q d"], *, ridge: float = 1e-4, floor: float = 1e-7) -> float:
    """Effective rank of the linear discriminant of samples, each a class of its views.

    ``exp(-sum p log p)`` of the eigenvalues p of ``W^-1/2 B W^-1/2``, normalized to sum 1, with
    B the covariance of the samples' means and W that of the views around them plus ``ridge``
    (LiDAR, Thilak et al. 2023, arXiv:2312.04000, equations 1 to 5). From 1 to the smaller of d and
    N - 1; samples whose means differ by rounding alone are one direction.

    Raises:
        ValueError: fewer than two samples or views.
    """
    _check(z, samples=2)
    z = z.double()
    mean = z.mean(1)
    between = (mean - mean.mean(0)).T @ (mean - mean.mean(0)) / len(z)
    if between.trace() <= ROUNDING**2 * mean.square().sum(1).mean():
        return 1.0
    around = (z - mean[:, None]).flatten(0, 1)
    within = around.T @ around / len(around)
    values, vectors = torch.linalg.eigh(
        within + ridge * torch.eye(z.shape[2], dtype=z.dtype, device=z.device)
    )
    whiten = vectors * values.rsqrt() @ vectors.T
    found = torch.linalg.eigvalsh(whiten @ between @ whiten).clamp_min(0)
    share = found / found.sum() + floor
    return float((-(share * share.log()).sum()).exp())


def _check(z: Tensor, *, samples: int, views: int = 2) -> None:
    if len(z) < samples or z.shape[1] < views:
        raise ValueError(
            f"{len(z)} samples of {z.shape[1]} views: give {samples} or more of {views} or more"
        )


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Alignment, uniformity and LiDAR of training images under random views; needs no labels.

    The floor without a network is the views' pixels.

    Args:
        rows: images, spread evenly; all where there are fewer.
        views: of each.
        augment: what makes them; the same for every encoder, so that figures compare.
        seed: of the views.
        every: epochs between two calls during training, None for never.

    Raises:
        ValueError: fewer than two rows or views; at judging, data that is no images or has fewer
            than two of them.
    """

    name: ClassVar[str] = "alignment"
    needs: ClassVar[str] = "encoder"
    protocol: ClassVar[str] = "alignment/views-v1"
    rows: int = 1000
    views: int = 8
    augment: Augment = VIEWS
    seed: int = -7
    every: int | None = None

    def __post_init__(self) -> None:
        if self.rows < 2 or self.views < 2:
            raise ValueError(f"rows {self.rows}, views {self.views}: give two or more of each")

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Embed the views of each image in eval mode."""
        place = device_of(predict)
        return self._judge(lambda view: predict(view.to(place)).float().cpu(), data, predict.spec)

    def plain(self, data: DataSource) -> list[Measure]:
        """The same of the views' pixels."""
        return self._judge(data.raw, data, data.spec())

    def __call__(self, predict: Any, data: DataSource) -> dict[str, float]:
        """Judge, as named values."""
        return flatten(self.judge(predict, data), self.name)

    def _judge(
        self, look: Callable[[Tensor], Tensor], data: DataSource, spec: Any
    ) -> list[Measure]:
        if not isinstance(spec, ImageSpec):
            raise ValueError(
                f"{data.name} is no images: alignment draws views of images, leave it out"
            )
        augment = self.augment.fit(spec)
        samples = data.fit(spec).split("train")
        if len(samples) < 2:
            raise ValueError(
                f"{data.name} has {len(samples)} training image: alignment compares two or more"
            )
        places = spread(len(samples), self.rows)
        found = []
        with torch.no_grad():
            for start in range(0, len(places), CHUNK):
                raw = data.collate(samples.__getitems__(places[start : start + CHUNK]))
                views = [
                    augment(raw_images(raw), SampleGenerator(self.seed, n, raw["index"]), spec)[0]
                    for n in range(self.views)
                ]
                z = look(torch.cat(views))
                found.append(z.view(self.views, len(raw["index"]), -1).transpose(0, 1))
        z = torch.cat(found)
        values = {
            "alignment": (alignment(z), False),
            "uniformity": (uniformity(z[:, 0]), False),
            "lidar": (lidar(z), True),
        }
        return [
            Measure(
                metric=metric,
                value=value,
                test=len(z),
                unit="",
                higher_is_better=higher,
                details={"views": self.views, "dim": z.shape[2]},
            )
            for metric, (value, higher) in values.items()
        ]
