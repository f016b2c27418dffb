"""Callbacks: how a run shows itself, watches its health, and keeps its state."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from unlabeled.artifacts import checksum, read_json, write_json
from unlabeled.engine import NonFinite
from unlabeled.evaluators.labelfree import effective_rank, relative_std


class Collapse(RuntimeError):
    """The embeddings lost almost all their dimensions; training stopped."""


class Interrupted(RuntimeError):
    """The run was asked to stop and saved its state; the same command continues it."""


class Checkpoints(Callback):
    """Writes last.ckpt between two steps, atomically, and keeps the one before.

    A checkpoint is written every ``seconds`` and when SIGINT or SIGTERM asks the run to stop. At
    most the steps since the last checkpoint are lost, whatever happens.
    """

    def __init__(self, folder: Path, *, seconds: float, accumulate: int) -> None:
        self.folder, self.seconds, self.accumulate = folder, seconds, accumulate
        self.asked: int | None = None
        self._saved = time.monotonic()
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Take over the signals, so that a run never stops in the middle of a step."""
        self._saved = time.monotonic()
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._handlers[number] = signal.signal(number, self._ask)
            except ValueError:  # not the main thread: somebody else handles signals
                return

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None:  # asked twice: do not wait for the end of the step
            raise KeyboardInterrupt
        self.asked = number

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time; only between optimizer steps is the state whole."""
        if (batch_idx + 1) % self.accumulate:
            return
        late = time.monotonic() - self._saved >= self.seconds
        if late or self.asked is not None:
            self.save(trainer)
        if self.asked is not None:
            raise Interrupted(
                f"stopped at step {(batch_idx + 1) // self.accumulate}; "
                "the same command continues from here"
            )

    def save(self, trainer: Trainer) -> None:
        """Write to a temporary file, flush it to the disk, and only then replace last.ckpt."""
        last = self.folder / "last.ckpt"
        part = self.folder / "last.part"
        try:
            trainer.save_checkpoint(part, weights_only=False)
            if trainer.is_global_zero:
                with part.open("rb+") as file:
                    os.fsync(file.fileno())
                # before the renames: whenever the process dies, all files are on the list
                sums = self.folder / "checksums.json"
                known = read_json(sums).get("sha256", [])
                write_json(sums, {"sha256": [checksum(part), *known][:3]})
                if last.exists():
                    os.replace(last, self.folder / "previous.ckpt")
                os.replace(part, last)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise RuntimeError(
                f"cannot write {last} ({error.strerror}): free some space or choose another --out; "
                "the checkpoint before is whole, and the same command continues from it"
            ) from error
        self._saved = time.monotonic()

    def on_exception(
        self, trainer: Trainer, module: LightningModule, exception: BaseException
    ) -> None:
        """Keep the state of a run that stopped itself; last.ckpt stays what it was."""
        if isinstance(exception, Collapse | NonFinite):
            trainer.save_checkpoint(self.folder / "stopped.ckpt", weights_only=False)
        self._give_back()

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Give the signals back."""
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()


class Health(Callback):
    """Label-free health of what the encoder gives: spread and effective rank.

    Watches the encoder's outputs during training by a forward hook, so it costs no extra pass.
    ``std`` is the mean over dimensions of the standard deviation of the unit-length embeddings,
    times sqrt(dim); ``rank`` is RankMe's effective rank. Either at its floor three times in a
    row, after the first ``patience`` steps, is a collapse. The floor of the rank is the method's
    ``lowest_rank`` (0: never a collapse); a map of few dimensions may have a low rank: below 16 it
    comes closer to 1.
    """

    rows = 1024
    std_floor = 0.01

    def __init__(self, *, every: int, patience: int) -> None:
        self.every, self.patience = every, patience
        self.std = self.rank = float("nan")
        self._kept: list[Tensor] = []
        self._bad = 0
        self._hook: Any = None

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start to watch."""
        encoder: nn.Module = module.method.encoder  # type: ignore[union-attr,assignment]
        self._hook = encoder.register_forward_hook(self._keep)

    def _keep(self, encoder: nn.Module, inputs: Any, output: Any) -> None:
        if encoder.training and isinstance(output, Tensor) and output.ndim == 2:
            self._kept.append(output.detach())
            while sum(map(len, self._kept[1:])) >= self.rows:
                self._kept.pop(0)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure now and then, log, and stop a collapsed run."""
        if (batch_idx + 1) % self.every or not self._kept:
            return
        rows = torch.cat(self._kept)[-self.rows :].float()
        self._kept.clear()
        self.std, self.rank = relative_std(rows), effective_rank(rows)
        module.log("health/std", self.std, batch_size=1)
        module.log("health/rank", self.rank, batch_size=1)
        lowest: float = module.method.lowest_rank  # type: ignore[union-attr,assignment]
        floor = 1 + (lowest - 1) * min(1.0, (rows.shape[1] - 1) / 15)
        bad = lowest > 0 and not (self.std > self.std_floor and self.rank > floor)
        self._bad = self._bad + 1 if bad else 0
        if self._bad >= 3 and batch_idx >= self.patience:
            raise Collapse(
                f"the embeddings have collapsed at step {batch_idx + 1}: relative std "
                f"{self.std:.3f}, effective rank {self.rank:.1f} of {rows.shape[1]}; try a larger "
                "--batch-size, a lower learning rate (optim.lr=...), or stronger views "
                "(see `unlabeled show`); its state is in checkpoints/stopped.ckpt"
            )

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Stop watching."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None


class Speed(Callback):
    """Images a second and the share of time spent waiting for data, over the last seconds."""

    window = 5.0

    def __init__(self, *, batch_size: int, accumulate: int) -> None:
        self.micro = batch_size / accumulate
        self.rate = self.wait = 0.0
        self._end = self._since = 0.0
        self._waited, self._seen = 0.0, 0.0

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the clocks."""
        self._end = self._since = time.monotonic()

    def on_train_batch_start(
        self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The time since the last step ended went into waiting for this batch."""
        self._waited += time.monotonic() - self._end

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count, and close the window when it is over."""
        self._end = time.monotonic()
        self._seen += self.micro
        passed = self._end - self._since
        if passed >= self.window or self.rate == 0.0:
            self.rate, self.wait = self._seen / passed, self._waited / passed
            self._since, self._waited, self._seen = self._end, 0.0, 0.0
            module.log("speed/samples_per_second", self.rate, batch_size=1)
            module.log("speed/data_wait", self.wait, batch_size=1)


class Epochs(Callback):
    """Calls a function at the end of every n-th pass over the data."""

    def __init__(self, act: Callable[[Trainer, Any, int], None], *, steps: int) -> None:
        self.act, self.steps = act, steps

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The run is one Lightning epoch, so passes over the data are counted here."""
        if (batch_idx + 1) % self.steps == 0:
            self.act(trainer, module, (batch_idx + 1) // self.steps)
