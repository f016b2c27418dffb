"""APC: Generative Pre-Training for Speech with Autoregressive Predictive Coding (1910.12607)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from unlabeled.data.asterisk import Asterisk
from unlabeled.data.librispeech import LibriSpeech
from unlabeled.data.spoken import Spoken
from unlabeled.encoders.causal import CausalEncoder, attentive_encoder, recurrent_encoder
from unlabeled.evaluators.frames import FrameProbe
from unlabeled.method import Batch, Method, Sweep
from unlabeled.ops.gather import all_sum, world_size
from unlabeled.ops.precision import upcast
from unlabeled.recipe import Optim, Recipe
from unlabeled.schedule import constant
from unlabeled.views.waves import Beginning

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def future_l1(
    predicted: Float[Tensor, "B T d"],
    frames: Float[Tensor, "B T d"],
    inside: Bool[Tensor, "B T"],
    *,
    ahead: int,
) -> Tensor:
    """``mean |x_{t+n} - y_t|`` over all t whose target lies inside its recording, and over d.

    Args:
        predicted: y.
        frames: x.
        inside: which frames are the recording's own.
        ahead: n.
    """
    valid = inside[:, ahead:].to(predicted.dtype)
    error = (upcast(predicted[:, :-ahead]) - upcast(frames[:, ahead:])).abs().mean(2)
    count = all_sum(valid.sum())
    # ranks average their losses, so each brings its share of the sum as many times as there are
    return world_size() * (error * valid).sum() / count.clamp_min(1)


@final
class APC(Method):
    """From the frames so far, the log-mel frame n steps ahead.

    ``L = 1 / (T - n) sum_t |x_{t+n} - (W h_t + b)|`` with h the last layer of a causal network
    (section 2.1). The frames are normalized over the data, which is read once for that.

    Args:
        encoder: log-mel frames and the network.
        ahead: n.
    """

    encoder: CausalEncoder
    measured: Tensor

    def __init__(self, encoder: CausalEncoder, *, ahead: int = 3) -> None:
        super().__init__(encoder)
        if ahead < 1:
            raise ValueError(f"ahead is {ahead}: give at least 1 frame")
        self.predict = nn.Linear(encoder.dim, encoder.logmel.bands)
        self.ahead = ahead
        self.register_buffer("measured", torch.zeros((), dtype=torch.bool))

    def before_step(self, sweep: Sweep) -> None:
        """Measure mean and deviation of each band over the data, once."""
        if not bool(self.measured):
            self.encoder.normalize(sweep(self.encoder.moments))
            self.measured.fill_(True)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Frames that reach beyond a recording's end are no targets."""
        (x,) = batch["views"]
        hidden, frames = self.encoder.local(x), self.encoder.frames(x)
        counts = self.encoder.logmel.count(batch["length"])
        inside = torch.arange(frames.shape[1], device=x.device) < counts[:, None]
        return {"l1": future_l1(self.predict(hidden), frames, inside, ahead=self.ahead)}


def paper() -> Recipe:
    """R-APC: three GRU layers of 512 on 80 bands of LibriSpeech, 100 epochs at batch 32.

    Adam at 1e-4, gradient norm 1; utterances are cut at 1,600 frames (released defaults).
    """
    return Recipe(
        method=partial(APC),
        encoder=partial(recurrent_encoder),
        data=LibriSpeech(),
        views=Beginning(length=256_240),
        optim=Optim(kind=torch.optim.Adam, lr=constant(1e-4), lr_per=None),
        epochs=100,
        batch_size=32,
        clip=1.0,
    )


def transformer_paper() -> Recipe:
    """T-APC: four blocks of a Transformer's decoder, 512 wide."""
    return replace(paper(), encoder=partial(attentive_encoder))


def small() -> Recipe:
    """Minutes on one CPU core: two GRU layers of 128 on synthesized words of 20 voices."""
    return Recipe(
        method=partial(APC),
        encoder=partial(recurrent_encoder, bands=40, dim=128, layers=2),
        data=Spoken(),
        views=Beginning(),
        optim=Optim(kind=torch.optim.Adam, lr=constant(1e-3), lr_per=None),
        epochs=15,
        batch_size=32,
        clip=1.0,
        evaluate=(FrameProbe(), "linear"),
    )


def transformer() -> Recipe:
    """`small` with T-APC: three blocks of 128."""
    return replace(
        small(), encoder=partial(attentive_encoder, bands=40, dim=128, layers=3, heads=4)
    )


def voices() -> Recipe:
    """`small` on real prompts in five voices, whose voice is to be told."""
    return replace(
        small(), data=Asterisk(), views=Beginning(length=16_000), evaluate=("linear", "knn")
    )
