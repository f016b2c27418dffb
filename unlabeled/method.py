"""All that the author of a method must know: Batch, Clock, Turn, Method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, Required, TypedDict

from torch import Tensor, nn

from unlabeled.schedule import Clock

__all__ = ["Batch", "Clock", "Method", "Sweep", "Turn"]

Sweep = Callable[[Callable[..., Tensor]], Tensor]
"""``sweep(fn) -> [N, ...]``: fn over the whole training set, in order, in eval mode, without
gradient, on all ranks. Costs one forward pass of the data."""


class Batch(TypedDict, total=False):
    """A collated batch. Views may add a key for each thing that they record."""

    views: Required[list[Any]]
    """Always a list, also of one: tensors [B, ...], or another modality's batch objects."""
    index: Required[Tensor]
    """[B] int64, the place of each sample in the data set (banks, assignments)."""
    label: Tensor
    """[B] int64; for evaluators. A method may read it only if its card says ``labels = true``."""
    path: list[str]
    factors: Tensor
    """[B, F] float32: what generated each sample, for evaluators only; generated data alone."""
    tags: Tensor
    """[B, K] float32: 1 where a sample has the tag, 0 where not, NaN unknown; for evaluators."""
    case: Tensor
    """[B] int64: which samples are of one case, where they are judged one by one."""
    neighbors: Tensor
    """[B, k] int64, the places of what the data says is similar to each sample."""
    neighbor_images: Tensor
    """[B, k, C, H, W], the images at these places."""
    box: list[Tensor]
    """One [B, 4] a view: top, left, height, width of the crop in pixels of the source image."""
    flip: list[Tensor]
    """One [B] bool a view: whether the crop was mirrored left to right."""
    instances: list[Any]
    """One a sample, in raw batches of data whose samples are cases: all images of the case."""
    target: Tensor
    """[B, ...], what a sample's prediction is compared with, where the data says it."""
    source_images: Any
    """Images of another domain, with labels, one beside each sample."""
    source_label: Tensor
    """[B] int64: their labels."""
    source_views: list[Tensor]
    """Their views."""
    source_angle: Tensor
    """[B] int64: quarter turns of the second of these."""
    begins: Tensor
    """[B, T] bool: the first token of a word."""
    sentence: Tensor
    """[B, T] int64: the number of each token's sentence, -1 for padding."""
    swapped: Tensor
    """[B] int64: 1 where the second segment of a text comes first."""
    actions: Tensor
    """[B, T] int64, what an expert did at each step of a run."""
    length: Tensor
    """[B] int64: how much of each padded sequence is its own."""
    phone: Tensor
    """[B, T] int64: what is pronounced in each 10 ms of speech, for evaluators."""
    word: Tensor
    """[B, T] int64: of which word that is a part, 0 for none, for evaluators."""
    dropped: Tensor
    """[B, E, N, N] bool: edges of a graph over parts of frames that are not taken."""
    maps: list[Tensor]
    """One [B, 2, 3] a frame: from places in the transformed frame to those before, in px."""
    jitter: Tensor
    """[B, c] in [0, 1): places within the coarse bins of rays."""
    draws: Tensor
    """[B, f] in [0, 1): of the fine samples of rays."""
    order: list[Tensor]
    """One [B] int64 a view: which permutation of a set the tiles of the view are in."""
    angle: list[Tensor]
    """One [B] int64 a view: quarter turns, counterclockwise, after the crop."""


class Turn(NamedTuple):
    """Who minimises what. Most methods have one turn; a GAN has two.

    In every step each turn, in the order of ``turns()``, makes ``repeats`` steps of its own
    optimizer. Only the parameters of ``modules`` get a gradient from ``loss``, which is called
    once a repeat (and accumulated micro-batch) with the same batch; ``clock.play`` tells the
    repeats apart.
    """

    loss: Callable[[Batch], dict[str, Tensor]]
    modules: tuple[nn.Module, ...]
    repeats: int = 1


class Method(nn.Module, ABC):
    """The one base class of all methods; every subclass is final.

    A method holds its networks and says what its loss is. It never sees the trainer: the engine
    sets ``clock``, calls ``before_step``, minimises the sum of the terms of ``loss`` (or of each
    turn), and calls ``after_step`` once per real optimizer step. All state that training changes
    is a parameter or a buffer; everything else follows from the clock.
    """

    clock: Clock = Clock()
    lowest_rank: float = 1.5
    """Effective rank at which embeddings have collapsed; 0 where a run may end in one direction."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    @abstractmethod
    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar terms; the engine minimises and logs their sum."""

    def before_step(self, sweep: Sweep) -> None:
        """Whatever must happen before the forward pass: reassign clusters, freeze a layer."""

    def after_step(self) -> None:
        """Called after the optimizer really stepped: move a teacher."""

    def turns(self) -> dict[str, Turn]:
        """The players. With more than one, each has its own optimizer (``Recipe.optim``)."""
        return {"main": Turn(self.loss, (self,))}

    def predictors(self) -> dict[str, Callable[..., Any]]:
        """What evaluators may ask for, by name: embed, depth, flow, sample, act, render ..."""
        return {"embed": self.encoder}
