"""Training steps as plain calls: a Trainer in a thread of its own that stops after every step."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

PLAIN_TRAINER: dict[str, Any] = {
    "max_epochs": 1,
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class _Over(BaseException):
    """Unwinds a Trainer that is not needed any more."""


class Steps:
    """``steps()`` lets a Trainer do one training step, with all that it does around a step.

    Two Trainers thus take turns, step by step, in one process: the runs are paired. Between the
    calls the Trainer waits inside its last callback.

    Args:
        fit: trains with the callback that it is given.
    """

    def __init__(self, fit: Callable[[Callback], object]) -> None:
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._error: BaseException | None = None
        self._stop = False
        owner = self

        class Pause(Callback):
            def on_train_batch_start(self, trainer: Any, module: Any, *rest: Any) -> None:
                owner.module = module

            def on_train_batch_end(self, *rest: Any) -> None:
                owner._done.release()
                owner._wait()

        self.module: Any = None
        self._thread = threading.Thread(target=self._run, args=(fit, Pause()), daemon=True)
        self._thread.start()

    def _run(self, fit: Callable[[Callback], object], pause: Callback) -> None:
        try:
            self._wait()
            fit(pause)
            raise RuntimeError("the run ended before the benchmark did: give it more steps")
        except _Over:
            pass
        except BaseException as error:  # raised again where the step was asked for
            self._error = error
        finally:
            self._done.release()

    def _wait(self) -> None:
        self._go.acquire()
        if self._stop:
            raise _Over

    def __call__(self) -> None:
        if self._error is None:
            self._go.release()
            self._done.acquire()
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Steps:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop = True
        self._go.release()
        self._thread.join(timeout=10)


def ours(recipe: Any, folder: Path, *, device: str = "cpu", **options: Any) -> Steps:
    """A run of `unlabeled.pretrain` as it comes: logs, health, checkpoints and all."""
    from unlabeled.pretraining import pretrain

    accelerator = "gpu" if device == "cuda" else "cpu"
    return Steps(
        lambda pause: pretrain(
            recipe, out=folder, accelerator=accelerator, callbacks=[pause], **options
        )
    )


class Views(Dataset[Any]):
    """Images as PIL, each turned into a list of views by a peer's transform."""

    def __init__(self, images: np.ndarray[Any, Any], transform: Any) -> None:
        self.images = [Image.fromarray(image) for image in images]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        return self.transform(self.images[place]), 0


class LightlySimCLR(LightningModule):
    """lightly's SimCLR example: two forward passes, NTXentLoss."""

    def __init__(self, encoder: nn.Module, head: nn.Module, optimizer: Any, temperature: float):
        super().__init__()
        from lightly.loss import NTXentLoss

        self.encoder, self.head, self.optimizer = encoder, head, optimizer
        self.criterion = NTXentLoss(temperature=temperature)

    def training_step(self, batch: Any, number: int) -> Tensor:
        (first, second), _ = batch
        return self.criterion(self.head(self.encoder(first)), self.head(self.encoder(second)))

    def configure_optimizers(self) -> Any:
        return self.optimizer(self.parameters())


def lightly(
    module: LightlySimCLR,
    images: np.ndarray[Any, Any],
    transform: Any,
    *,
    batch_size: int,
    device: str = "cpu",
    precision: str = "32-true",
    epochs: int = 1000,
    workers: int = 0,
) -> Steps:
    """lightly's stack under Lightning as its documentation shows it, shuffled, without logger."""

    def fit(pause: Callback) -> None:
        loader = DataLoader(
            Views(images, transform),
            batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        accelerator = "gpu" if device == "cuda" else "cpu"
        options = {**PLAIN_TRAINER, "max_epochs": epochs, "precision": precision}
        Trainer(accelerator=accelerator, callbacks=[pause], **options).fit(module, loader)

    return Steps(fit)


def random_images(count: int, side: int, channels: int) -> np.ndarray[Any, Any]:
    """[N, S, S, 3] or [N, S, S] uint8, smooth shapes with some noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 4, 4, generator=generator)
    smooth = nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    noisy = smooth + torch.rand(smooth.shape, generator=generator) * 0.1
    pixels = (noisy.clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).contiguous().numpy()
    return pixels if channels == 3 else pixels[..., 0]
