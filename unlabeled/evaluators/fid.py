"""Fid: how far made images are from real ones, in the features of a small network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from unlabeled.data.source import DataSource, ImageSpec
from unlabeled.encoders.small import small_resnet
from unlabeled.evaluators.evaluator import Figure, Measure
from unlabeled.evaluators.supervised import Supervised

if TYPE_CHECKING:
    from jaxtyping import Float

CHUNK = 500
WIDTHS = (16, 32, 64)


def pixel_spec(channels: int, side: int) -> ImageSpec:
    """The images themselves, from 0 to 1."""
    return ImageSpec(channels=channels, size=side, mean=(0.0,) * channels, std=(1.0,) * channels)


class Judge(nn.Module):
    """A small network that looks at images [B, C, S, S] in [0, 1].

    Args:
        encoder: what makes features.
        head: what makes classes of them; None for random features.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module | None) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self.num_features = WIDTHS[-1]  # torchmetrics' name

    @torch.no_grad()
    def forward(self, pixels: Float[Tensor, "B C S S"]) -> Float[Tensor, "B D"]:
        """[B, C, S, S] -> [B, 64]."""
        return torch.cat([self.encoder(part) for part in pixels.split(CHUNK)])

    @property
    def kind(self) -> str:
        """What its features are."""
        return "random weights" if self.head is None else "classifier of the data's classes"


@lru_cache(maxsize=2)
def judge_network(data: DataSource, side: int) -> Judge:
    """A classifier of the data's classes, trained on "train"; without labels, random weights.

    Its training is a fixed one of one pass over the data, so that two figures on the same data
    compare; they do not compare with those of Inception features.
    """
    spec = pixel_spec(data.spec().channels, side)
    builder = partial(small_resnet, widths=WIDTHS)
    count = data.size("train")
    samples = data.split("train")
    if data.classes is None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Judge(builder(spec), None).eval().requires_grad_(False)
    places = torch.arange(count)
    label = torch.cat([samples.__getitems__(part.tolist())["label"] for part in places.split(5000)])
    trained = Supervised(epochs=1, least_steps=200).train(
        builder, data, spec=spec, places=places, label=label, classes=len(data.classes), seed=0
    )
    return Judge(trained.encoder, trained.head).eval().requires_grad_(False)


def pictures(
    data: DataSource, split: str, count: int, side: int
) -> tuple[Float[Tensor, "N C S S"], Tensor | None]:
    """The first images of a split in [0, 1], and their labels where they are known."""
    prepare = data.prepare(pixel_spec(data.spec().channels, side))
    places = torch.arange(min(count, data.size(split)))
    raw = [data.split(split).__getitems__(part.tolist()) for part in places.split(CHUNK)]
    pixels = torch.cat([prepare(part) for part in raw]).clamp(0, 1)
    return pixels, torch.cat([part["label"] for part in raw]) if "label" in raw[0] else None


def at_side(images: Float[Tensor, "N C H W"], side: int) -> Float[Tensor, "N C S S"]:
    """The images, resized where they have another side."""
    if images.shape[-1] == side:
        return images
    return interpolate(images, size=(side, side), mode="bilinear", antialias=True)


def frechet(judge: Judge, real: Tensor, made: Tensor) -> float:
    """``|m_r - m_f|^2 + tr(C_r + C_f - 2 (C_r C_f)^(1/2))`` (Heusel et al., arXiv:1706.08500)."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=judge, normalize=True)
    for pixels, truth in ((real, True), (made, False)):
        metric.update(pixels, real=truth)
    return float(metric.compute())


@dataclass(frozen=True, kw_only=True)
class Fid:
    """Frechet distance of as many made images as test has, at most ``images``, to those of test.

    Lower is better; ``real`` among the details is what as many training images have. The features
    are those of `judge_network`. The floor without a network draws images from the Gaussian that
    has the mean and covariance of 1,000 training images' pixels.

    Args:
        images: that are made.
        side: at which all images are compared; None is the data's own.
    """

    images: int = 5000
    side: int | None = None
    name: str = "fid"
    needs: str = "sample"
    every: int | None = None
    protocol: str = "fid/small-classifier-v1"

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Draw, and compare with test."""
        count = min(self.images, data.size("test"))
        return [self._measure(_drawn(predict, count), data)]

    def plain(self, data: DataSource) -> list[Measure]:
        """Draw from a Gaussian of pixels."""
        seen, _ = pictures(data, "train", 1000, self.side or data.spec().size)
        mean, count = seen.mean(0), min(self.images, data.size("test"))
        draws = torch.randn(count, len(seen), generator=torch.Generator().manual_seed(0))
        off = draws @ (seen - mean).flatten(1) / len(seen) ** 0.5
        return [self._measure((mean + off.unflatten(1, mean.shape)).clamp(0, 1), data)]

    def figures(self, predict: Any, data: DataSource) -> list[Figure]:
        """Made images, beside real ones."""
        made = _drawn(predict, 64)
        real, _ = pictures(data, "test", 64, made.shape[-1])
        return [Figure("Made images", sheet(made)), Figure("Real images", sheet(real))]

    def _measure(self, made: Tensor, data: DataSource) -> Measure:
        side = self.side or data.spec().size
        network, made = judge_network(data, side), at_side(made, side)
        test, _ = pictures(data, "test", len(made), side)
        train, _ = pictures(data, "train", len(made), side)
        details = {"features": network.kind, "real": round(frechet(network, test, train), 4)}
        return Measure(
            metric="fid",
            value=frechet(network, test, made),
            test=len(test),
            unit="",
            higher_is_better=False,
            details=details,
        )


def _drawn(predict: Any, count: int) -> Tensor:
    """[count, C, S, S], in chunks."""
    draws = torch.Generator().manual_seed(0)
    sizes = [len(part) for part in torch.arange(count).split(CHUNK)]
    return torch.cat([predict(size, draws).float().cpu() for size in sizes]).clamp(0, 1)


def sheet(images: Float[Tensor, "N C S S"], *, columns: int = 16) -> Float[Tensor, "1 C H W"]:
    """[1, C, rows S, columns S]: images beside each other, enlarged where they are small."""
    zoom = max(1, 56 // images.shape[-1])
    images = images[: len(images) // columns * columns]
    images = images.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    rows = images.unflatten(0, (-1, columns)).permute(2, 0, 3, 1, 4)
    return rows.flatten(1, 2).flatten(2)[None]
