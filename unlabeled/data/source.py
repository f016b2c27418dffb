"""DataSource: what the engine and the evaluators ask of data, whatever its modality."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor
from torch.nn.functional import interpolate

from unlabeled.data.order import permutation, spread
from unlabeled.method import Batch, Method


class Samples(Protocol):
    """A split: a map-style data set that reads a whole batch at once."""

    def __len__(self) -> int: ...

    def __getitems__(self, places: list[int]) -> Batch:
        """Read the samples at ``places`` as one raw batch.

        ``views`` holds one raw item: for images a uint8 or float32 tensor [B, C, H, W], or a list
        of B tensors [C, H, W] where sizes differ. ``index`` is ``places``; ``label`` [B] int64 is
        there only where labels are known, ``path`` only for files.
        """
        ...


class DataSource(ABC):
    """Data with a name, splits, and facts that encoders and views are fitted to.

    Concrete sources are frozen dataclasses of plain values (a recipe stores their text) and load
    nothing before ``split``, ``size`` or ``spec`` is called.
    """

    modality: str = "image"
    """What kind of data it is: a recipe takes the kind that its own data is of."""

    workers: int = 0
    """Data-loader processes that pay off; 0 where the data lies in memory."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Short name for tables and file names."""

    @abstractmethod
    def size(self, split: str) -> int:
        """Return the number of samples in a split."""

    @abstractmethod
    def split(self, name: str) -> Samples:
        """Return the split ("train", "test") or raise a ValueError that lists those there are."""

    @abstractmethod
    def spec(self) -> Any:
        """Return facts for encoders and views: for images an `ImageSpec`."""

    @abstractmethod
    def prepare(self, spec: Any) -> Callable[[Batch], Any]:
        """Return the function from a raw batch to an encoder's input when nothing is random."""

    def raw(self, x: Any) -> Tensor:
        """[B, d]: a prepared input as features without a network, the floor of raw input.

        By default the input as one vector, images at 32 px where they are larger.
        """
        return raw_pixels(x)

    def fit(self, spec: Any) -> DataSource:
        """Return the source as an encoder with this spec wants it; the source itself by default.

        Images on the disk are decoded to the size that the encoder takes, not to their own.
        """
        return self

    def plain(self, spec: Any) -> DataSource:
        """Return the source as ``prepare(spec)`` wants it, where nothing is random.

        By default that of `fit`; images on the disk are decoded without the room that random
        crops need.
        """
        return self.fit(spec)

    def epoch_order(self, *, seed: int, epoch: int) -> Tensor:
        """[N] int64: in what order an epoch reads "train"; a pure function of (seed, epoch).

        By default a permutation; sources that are read best from front to back say otherwise.
        """
        return permutation(self.size("train"), seed=seed, epoch=epoch)

    def some(self, most: int) -> list[int]:
        """Return at most ``most`` places of "train" to measure statistics on, cheap to read.

        By default spread evenly over all.
        """
        return spread(self.size("train"), most)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Class names, or None where there are no labels."""
        return None

    def collate(self, batch: Batch) -> Batch:
        """Join what ``__getitems__`` returned; the identity, since it reads whole batches."""
        return batch

    def follow(self, method: Method) -> None:
        """Live sources (control) generate data with the current method; others do nothing."""
        return


RAW_SIDE = 32


def raw_pixels(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, d]: the input itself, resized to 32 px where it is larger."""
    if x.ndim == 4 and max(x.shape[-2:]) > RAW_SIDE:
        x = interpolate(x, size=(RAW_SIDE, RAW_SIDE), mode="bilinear", antialias=True)
    return x.flatten(1)


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """What an image encoder takes: channels, side in pixels, and the normalization of its input.

    ``x = (pixel - mean) / std`` with pixels in [0, 1]; one mean and std a channel.
    """

    channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(
                f"spec has {self.channels} channels, {len(self.mean)} means and "
                f"{len(self.std)} stds: give one of each a channel"
            )


@dataclass(frozen=True, kw_only=True)
class WaveSpec:
    """What a speech encoder takes: windows of a mono waveform, ``x = sample / std``.

    ``rate`` is in samples a second, ``length`` the samples of a window, ``std`` the standard
    deviation of the samples, which lie in [-1, 1].
    """

    rate: int
    length: int
    std: float

    def __post_init__(self) -> None:
        if min(self.rate, self.length) < 1 or not self.std > 0:
            raise ValueError(
                f"rate is {self.rate}, length {self.length}, std {self.std}: give values above 0"
            )
