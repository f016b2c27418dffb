"""How the command line talks: a plan before a run, a live line during it, errors in one line."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text
from torch import Tensor

from unlabeled.monitor import Health, Speed
from unlabeled.plan import Plan
from unlabeled.schedule import Clock


class ConsoleReporter:
    """Tells a person what a run does, on a terminal live and in a log file line by line."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def started(self, plan: Plan) -> None:
        """Print what will be done, and what was changed for the data or by the user."""
        recipe, data = plan.recipe, plan.recipe.data
        say = partial(self.console.print, soft_wrap=True, highlight=False)
        say(f"[bold]{plan.name}[/bold] on {data.name}: {data.size('train'):,} samples")
        say(f"  {recipe.views.spec}")
        say(
            f"  {plan.steps:,} steps of {recipe.batch_size}, {recipe.epochs:g} epochs, "
            f"{recipe.precision}, seed {recipe.seed}"
        )
        if plan.fitted:
            say(f"  fitted to the data: {'; '.join(plan.fitted)}")
        if plan.overrides:
            changed = ", ".join(f"{key}={value}" for key, value in plan.overrides.items())
            say(f"  changed by you: {changed}")
        say(f"  writes to {plan.out}; interrupt it whenever you like: the same command continues")

    def callback(self) -> Callback:
        """Return the callback that draws progress."""
        return LiveProgress(self.console)


class LiveProgress(Callback):
    """Loss terms, learning rate, samples a second, waiting for data, health, and time left."""

    plain_seconds = 10.0

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: Progress | None = None
        self._task: Any = None
        self._shown = 0.0

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Draw the bar on a terminal; elsewhere print a line now and then."""
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        if done:
            self.console.print(f"  continues at step {done:,}")
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("epoch {task.fields[epoch]:.2f}"),
                BarColumn(),
                TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[line]}"),
                console=self.console,
                refresh_per_second=4,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=None, completed=done, epoch=0.0, line="")

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Refresh at most four times a second, so that drawing costs nothing."""
        now, total = time.monotonic(), int(trainer.num_training_batches)
        pause = 0.25 if self._bar is not None else self.plain_seconds
        if now - self._shown < pause and batch_idx + 1 < total:
            return
        self._shown = now
        clock: Clock = module.method.clock  # type: ignore[union-attr,assignment]
        terms: dict[str, Tensor] = module.terms  # type: ignore[assignment]
        line = self._line(trainer, terms, left=total - batch_idx - 1)
        if self._bar is not None:
            self._bar.update(
                self._task, total=total, completed=batch_idx + 1, epoch=clock.epoch, line=line
            )
        else:
            epochs = clock.steps / clock.epoch_steps
            self.console.print(
                Text(f"  {batch_idx + 1:,}/{total:,} epoch {clock.epoch:.1f}/{epochs:.1f} {line}"),
                soft_wrap=True,
            )

    def _line(self, trainer: Trainer, terms: dict[str, Tensor], *, left: int) -> str:
        values = trainer.callback_metrics
        parts = [
            f"{name.removeprefix('loss/')} {value.item():.3f}" for name, value in terms.items()
        ]
        parts.append(f"lr {trainer.optimizers[0].param_groups[0]['lr']:.2g}")
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Speed) and callback.rate:
                parts.append(f"{callback.rate:,.0f}/s, {callback.wait:.0%} waiting for data")
                if self._bar is None:
                    minutes = left * callback.micro / callback.rate / 60
                    parts.append(f"{minutes:.1f} min left")
            elif isinstance(callback, Health) and callback.std == callback.std:
                parts.append(f"std {callback.std:.2f} rank {callback.rank:.1f}")
        if "knn/top1" in values:
            parts.append(f"kNN {values['knn/top1'].item():.1f}")
        return "  ".join(parts)

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Leave the terminal as it was."""
        self._stop()

    def on_exception(
        self, trainer: Trainer, module: LightningModule, exception: BaseException
    ) -> None:
        """Leave the terminal as it was."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


@contextmanager
def counted(console: Console, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function of (done, all) that draws a bar, or off a terminal a line now and then."""
    shown = time.monotonic()
    bar = Progress(
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} " + unit),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=4,
        disable=not console.is_terminal,
    )
    task = bar.add_task("", total=0)

    def update(done: int, total: int) -> None:
        nonlocal shown
        bar.update(task, total=total, completed=done)
        if not console.is_terminal and time.monotonic() - shown > LiveProgress.plain_seconds:
            shown = time.monotonic()
            console.print(f"  {done:,}/{total:,} {unit}", highlight=False)

    with bar:
        yield update


class _ConsoleLog(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        style = "yellow" if record.levelno >= logging.WARNING else "dim"
        self.console.print(Text(record.getMessage(), style=style), soft_wrap=True)


def show_log(console: Console) -> None:
    """Show what the library logs, and hush what Lightning says about hardware."""
    log = logging.getLogger("unlabeled")
    log.handlers = [_ConsoleLog(console)]
    log.setLevel(logging.INFO)
    log.propagate = False
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)


def explain(error: BaseException) -> str:
    """Put an error into one line with a remedy; the deep ones of torch get theirs here."""
    text = str(error).strip() or type(error).__name__
    lowered = text.lower()
    if "out of memory" in lowered or "can't allocate memory" in lowered:
        return (
            f"memory ran out ({text.splitlines()[0][:120]}): try a smaller --batch-size, or "
            "--grad-cache 64 for the same loss with an encoder that runs 64 samples at once"
        )
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return f"{error.filename}: no such file or folder"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(text.split())
