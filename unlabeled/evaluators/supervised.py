"""The supervised comparison: the same architecture trained from scratch with the labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

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
        precision: "32-true", "bf16-mixed" or "16-mixed".
    """

    epochs: int = 5
    least_steps: int = 600
    batch_size: int = 256
    lr: float = 2e-3
    weight_decay: float = 0.05
    shift: float = 0.1
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
        plain = [value for value in network.parameters() if value.ndim > 1]
        exempt = [value for value in network.parameters() if value.ndim <= 1]
        groups: list[dict[str, Any]] = [{"params": plain}, {"params": exempt, "weight_decay": 0.0}]
        steps, size = self.steps(len(places)), self.size(len(places))
        optimizer = torch.optim.AdamW(groups, lr=self.lr, weight_decay=self.weight_decay)
        schedule = cosine(self.lr, warmup=steps)  # of which the schedule takes a tenth
        prepare, kind = data.prepare(spec), torch.device(device).type
        dtype = PRECISIONS[self.precision]
        scaler = torch.amp.GradScaler(kind, enabled=dtype == torch.float16)
        network.train()
        for step, (epoch, chosen, batch) in enumerate(self._read(data, places, seed), 1):
            for group in optimizer.param_groups:
                group["lr"] = schedule(
                    Clock(step, steps + 1)
                )  # neither the first nor the last is 0
            generator = SampleGenerator(seed, epoch, batch["index"])
            x = shifted(prepare(batch), generator, share=self.shift).to(device)
            x = x.contiguous(memory_format=torch.channels_last)
            with nullcontext() if dtype is None else torch.autocast(kind, dtype):
                logits = network(x)
            loss = cross_entropy(logits.float(), label[chosen].to(device))
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
        return network.eval()

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
