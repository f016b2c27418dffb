"""The supervised comparison: the same architecture trained from scratch with the labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from unlabeled.data.order import permutation
from unlabeled.data.source import DataSource
from unlabeled.data.stream import read_ahead
from unlabeled.encoders.encoder import Encoder
from unlabeled.evaluators.evaluator import Measure, measure
from unlabeled.features import PRECISIONS, Progress, embed
from unlabeled.method import Batch, Clock
from unlabeled.schedule import cosine
from unlabeled.views.generator import SampleGenerator

PROTOCOL = "supervised/adamw-v1"
FEW_PROTOCOL = "fewlabel/supervised-adamw-v1"


@dataclass(frozen=True, kw_only=True)
class Supervised:
    """How the comparison is trained: AdamW, one cycle, random flips and shifts, cross-entropy.

    Nothing is tuned, so it is what labels give with little care, not the most they can give.

    Args:
        epochs: passes over the labeled samples.
        least_steps: steps that also a small set gets, in more passes.
        batch_size: samples of a step; at most a tenth of the labeled samples, but at least 16.
        lr: peak learning rate, reached after a tenth of the steps.
        weight_decay: of weights; biases and norms have none.
        shift: pixels as a share of the side, in each direction.
        mixup: alpha of the mixing of images and labels (arXiv:1710.09412); 0 mixes none.
        precision: "32-true", "bf16-mixed" or "16-mixed".
    """

    epochs: int = 5
    least_steps: int = 600
    batch_size: int = 256
    lr: float = 2e-3
    weight_decay: float = 0.05
    shift: float = 0.1
    mixup: float = 0.0
    precision: str = "32-true"

    def __post_init__(self) -> None:
        for name in ("epochs", "least_steps", "batch_size", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: give a positive number")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}: use one of {', '.join(PRECISIONS)}")

    def size(self, samples: int) -> int:
        """Samples of a step."""
        return min(self.batch_size, max(16, samples // 10), samples)

    def steps(self, samples: int) -> int:
        """Steps of a run on so many labeled samples."""
        return max(self.least_steps, self.epochs * (samples // self.size(samples)))

    def train(
        self,
        builder: Callable[[Any], Encoder],
        data: DataSource,
        *,
        spec: Any,
        places: Tensor,
        label: Tensor,
        classes: int,
        seed: int,
        device: str | torch.device = "cpu",
        progress: Progress | None = None,
    ) -> Classifier:
        """Train a fresh encoder with a linear head.

        Args:
            builder: ``builder(spec)`` makes the encoder.
            data: its "train" split is read.
            spec: the encoder's input.
            places: [n] which training samples.
            label: [n] their labels, 0 .. classes - 1.
            classes: C.
            seed: of weights, order, flips and shifts; the global state is left alone.
            device: where to train.
            progress: called after each step with the samples seen and those to see.

        Raises:
            FloatingPointError: a loss that is not finite.
        """
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            encoder = builder(spec)
            network = Classifier(encoder, nn.Linear(encoder.dim, classes)).to(device)
        self.fit(
            network,
            weight_groups(network, self.weight_decay),
            data,
            spec=spec,
            places=places,
            label=label,
            seed=seed,
            progress=progress,
        )
        return network

    def fit(
        self,
        network: Classifier,
        groups: list[dict[str, Any]],
        data: DataSource,
        *,
        spec: Any,
        places: Tensor,
        label: Tensor,
        seed: int,
        stop: int | None = None,
        after: Callable[[int], None] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Train a network in place, where it is; it ends in eval mode.

        Args:
            network: an encoder with its head.
            groups: of AdamW; ``scale`` in one multiplies its learning rate.
            data: as for `train`.
            spec: as for `train`.
            places: as for `train`.
            label: as for `train`.
            seed: as for `train`.
            stop: end after so many steps of the schedule.
            after: called with the number of steps done after each, in training mode.
            progress: as for `train`.

        Raises:
            FloatingPointError: a loss that is not finite.
        """
        steps, size = self.steps(len(places)), self.size(len(places))
        optimizer = torch.optim.AdamW(groups, lr=self.lr, weight_decay=self.weight_decay)
        schedule = cosine(self.lr, warmup=steps)  # of which the schedule takes a tenth
        place = next(network.parameters()).device
        prepare, kind = data.prepare(spec), place.type
        dtype = PRECISIONS[self.precision]
        scaler = torch.amp.GradScaler(kind, enabled=dtype == torch.float16)
        network.train()
        for step, (epoch, chosen, batch) in enumerate(self._read(data, places, seed), 1):
            for group in optimizer.param_groups:  # neither the first rate nor the last is 0
                group["lr"] = schedule(Clock(step, steps + 1)) * group.get("scale", 1.0)
            generator = SampleGenerator(seed, epoch, batch["index"])
            x, target = prepare(batch), label[chosen].to(place)
            if isinstance(x, Tensor) and x.ndim == 4:
                x = shifted(x, generator, share=self.shift)
                x = x.contiguous(memory_format=torch.channels_last)
            x, share = x.to(place), 1.0
            if self.mixup > 0:
                share = float(np.random.default_rng((seed, step)).beta(self.mixup, self.mixup))
                x = share * x + (1 - share) * x.flip(0)
            with nullcontext() if dtype is None else torch.autocast(kind, dtype):
                logits = network(x).float()
            loss = cross_entropy(logits, target)
            if share < 1:
                loss = share * loss + (1 - share) * cross_entropy(logits, target.flip(0))
            if not bool(torch.isfinite(loss)):
                raise FloatingPointError(
                    f"the supervised run's loss is {loss.item()} at step {step}: lower lr "
                    f"({self.lr}) or use precision='32-true'"
                )
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            if progress is not None:
                progress(step * size, steps * size)
            if after is not None:
                after(step)
            if step == stop:
                break
        network.eval()

    def _read(
        self, data: DataSource, places: Tensor, seed: int
    ) -> Iterator[tuple[int, Tensor, Batch]]:
        samples, size = data.split("train"), self.size(len(places))

        def read() -> Iterator[tuple[int, Tensor, Batch]]:
            for step in range(self.steps(len(places))):
                epoch, at = divmod(step, len(places) // size)
                if at == 0:
                    order = permutation(len(places), seed=seed, epoch=epoch)
                chosen = order[at * size : (at + 1) * size]
                batch = samples.__getitems__(places[chosen].tolist())
                yield epoch, chosen, data.collate(batch)

        return read_ahead(read(), ahead=2)


def weight_groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Two groups: weights, and biases and norms, which have no decay."""
    plain = [value for value in network.parameters() if value.ndim > 1]
    exempt = [value for value in network.parameters() if value.ndim <= 1]
    return [{"params": plain, "weight_decay": decay}, {"params": exempt, "weight_decay": 0.0}]


class Classifier(nn.Module):
    """An encoder with a linear head."""

    def __init__(self, encoder: Encoder, head: nn.Linear) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """[B, classes]: logits."""
        return self.head(self.encoder(x))


def shifted(x: Tensor, generator: SampleGenerator, *, share: float) -> Tensor:
    """Mirror each image of [B, C, H, W] with probability 1/2 and shift it by whole pixels.

    Shifts are uniform in ``-round(share H) .. round(share H)``; edges are repeated.
    """
    height, width = x.shape[-2:]
    reach = round(share * height)
    x = torch.where(generator.coin(0.5)[:, None, None, None], x.flip(3), x)
    offset = generator.integers(2, high=2 * reach + 1)
    x = pad(x, (reach, reach, reach, reach), mode="replicate")
    rows = offset[:, :1] + torch.arange(height)
    columns = offset[:, 1:] + torch.arange(width)
    batch = torch.arange(len(x))[:, None, None]
    return x.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def end_to_end(
    networks: list[Classifier],
    data: DataSource,
    *,
    spec: Any,
    truth: Tensor,
    train: int,
    settings: Supervised,
    batch_size: int = 512,
) -> Measure:
    """Return top1 of one network, or of one a draw of few labels, on the test split."""
    hits = []
    for network in networks:
        found = embed(
            network,
            data,
            split="test",
            spec=spec,
            batch_size=batch_size,
            precision=settings.precision,
        )
        hits.append(found.x.argmax(1) == truth)
    details = {
        "steps": settings.steps(train),
        "batch_size": settings.size(train),
        "lr": settings.lr,
        "weight_decay": settings.weight_decay,
        "precision": settings.precision,
    }
    return measure("top1", torch.stack(hits), train=train, details=details)
