"""The order of training: which samples every step sees, on every rank, from any starting point."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Sampler

from unlabeled.data.order import permutation
from unlabeled.data.source import DataSource


class Order(Protocol):
    """In what order an epoch is read, such as `DataSource.epoch_order`."""

    def __call__(self, *, seed: int, epoch: int) -> torch.Tensor:
        """[N] int64: each sample once."""
        ...


class Stream(Sampler[list[int]]):
    """All micro-batches of a run, in order: a pure function of (seed, micro-batch number).

    Each epoch has an order of its own; samples that do not fill the last batch are dropped from
    that epoch, so a run of at most one epoch sees no sample twice. A step's global batch is cut
    into ``accumulate`` micro-batches and each of these into one contiguous slice a rank, so no
    sample is seen twice or lost on any number of ranks.

    Args:
        samples: size of the training split.
        batch_size: samples of one optimizer step, over ranks and micro-batches.
        steps: optimizer steps of the whole run.
        start: micro-batches that a resumed run has done already.
        order: of each epoch; by default a permutation of all samples.
    """

    def __init__(
        self,
        samples: int,
        *,
        batch_size: int,
        steps: int,
        accumulate: int,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        start: int = 0,
        order: Order | None = None,
    ) -> None:
        if batch_size % (accumulate * ranks):
            raise ValueError(
                f"batch_size {batch_size} does not divide into {accumulate} micro-batches on "
                f"{ranks} ranks: use a multiple of {accumulate * ranks}"
            )
        self.samples, self.batch_size, self.steps = samples, batch_size, steps
        self.accumulate, self.seed, self.rank, self.ranks = accumulate, seed, rank, ranks
        self.start = start
        self.order = order or partial(permutation, samples)

    @property
    def epoch_steps(self) -> int:
        """Optimizer steps of one pass over the data."""
        return self.samples // self.batch_size

    def __len__(self) -> int:
        """Micro-batches of the whole run, those before ``start`` included."""
        return self.steps * self.accumulate

    def __iter__(self) -> Iterator[list[int]]:
        micro = self.batch_size // self.accumulate
        own = micro // self.ranks
        epoch, order = -1, torch.empty(0, dtype=torch.int64)
        for number in range(self.start, len(self)):
            step, part = divmod(number, self.accumulate)
            if step // self.epoch_steps != epoch:
                epoch = step // self.epoch_steps
                order = self.order(seed=self.seed, epoch=epoch)
            first = (step % self.epoch_steps) * self.batch_size + part * micro + self.rank * own
            yield order[first : first + own].tolist()


class Loader:
    """Reads the batches of a stream, a few ahead of their use, in one thread.

    Decoding and NumPy release the interpreter lock, so a thread hides them behind the step
    without pickling batches between processes. Its length is that of the whole run, so that a
    resumed run counts on where the first one stopped.
    """

    def __init__(self, source: DataSource, stream: Stream, *, ahead: int = 2) -> None:
        self.stream, self.ahead = stream, ahead
        self.loader: DataLoader[Any] = DataLoader(
            source.split("train"),  # type: ignore[arg-type]
            batch_sampler=stream,
            collate_fn=source.collate,  # type: ignore[arg-type]
            num_workers=source.workers,
            generator=torch.Generator().manual_seed(0),  # leaves the global state alone
        )

    def __len__(self) -> int:
        return len(self.stream)

    def __iter__(self) -> Iterator[Any]:
        return read_ahead(iter(self.loader), ahead=self.ahead)


def read_ahead(items: Iterator[Any], *, ahead: int) -> Iterator[Any]:
    """Yield what ``items`` yields, with a thread that stays up to ``ahead`` items in front.

    An exception in the thread is raised here, at the place of the item that failed.
    """
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=ahead)
    stopped = threading.Event()

    def put(kind: str, value: Any) -> None:
        while not stopped.is_set():
            try:
                return waiting.put((kind, value), timeout=0.1)
            except queue.Full:
                continue

    def read() -> None:
        try:
            for item in items:
                put("item", item)
                if stopped.is_set():
                    return
            put("end", None)
        except BaseException as error:  # raised again in the thread that asked
            put("error", error)

    thread = threading.Thread(target=read, name="unlabeled-read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = waiting.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        stopped.set()
        thread.join(timeout=5)
