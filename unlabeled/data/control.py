"""Control: tasks that a policy acts in, and whole runs of an expert in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from unlabeled.data.source import DataSource
from unlabeled.method import Batch

FRAMES = 2
"""Stacked in an observation: the one before and this one."""


class FrameSpec(Protocol):
    """What an encoder of runs takes: squares of ``side`` pixels; ``channels`` of all frames."""

    @property
    def side(self) -> int:
        """Height and width."""

    @property
    def channels(self) -> int:
        """Of an observation: `FRAMES` times those of a frame."""


class Environments(Protocol):
    """Tasks side by side, from their start on; all of them are over at the same step."""

    @property
    def over(self) -> bool:
        """Whether no step is left."""

    def observe(self) -> Tensor:
        """[B, channels, side, side] float in [0, 1]."""

    def step(self, action: Tensor) -> None:
        """Do [B] actions."""

    def scores(self) -> dict[str, Tensor]:
        """[B] by name, when they are over: bool for shares of tasks, float for means.

        The first says whether a task is solved.
        """


class Runs:
    """Whole runs in memory.

    Args:
        frames: observations [N, T, channels, side, side], float, or uint8 of which 255 is 1.
        actions: [N, T].
        length: [N]: steps of each run; after it the last observation is repeated.
    """

    def __init__(self, frames: Tensor, actions: Tensor, length: Tensor) -> None:
        self.frames, self.actions, self.length = frames, actions, length

    def __len__(self) -> int:
        return len(self.length)

    def __getitems__(self, places: list[int]) -> Batch:
        """Read runs."""
        index = torch.as_tensor(places, dtype=torch.int64)
        return Batch(
            views=[in_unit(self.frames[index])],
            index=index,
            actions=self.actions[index],
            length=self.length[index],
        )

    def steps(self) -> tuple[Tensor, Tensor]:
        """Observations [M, channels, side, side] and actions [M] of all steps of all runs."""
        inside = torch.arange(self.frames.shape[1]) < self.length[:, None]
        return in_unit(self.frames[inside]), self.actions[inside]


class ControlSource(DataSource, ABC):
    """Runs of an expert to learn from, and tasks to act in.

    A sample is a run: raw batches hold observations [B, T, channels, side, side], ``actions``
    [B, T] and ``length`` [B]. "test" are tasks that "train" does not have.
    """

    modality = "control"

    @abstractmethod
    def split(self, name: str) -> Runs:
        """Return the expert's runs in the tasks of "train" or "test"."""

    @abstractmethod
    def tasks(self, split: str) -> Sequence[Tensor]:
        """Facts of the tasks that a split is judged in, [B] each."""

    @abstractmethod
    def start(self, tasks: Sequence[Tensor]) -> Environments:
        """Begin such tasks, or some of them."""

    def prepare(self, spec: Any) -> Callable[[Batch], Tensor]:
        """Return the function that takes the observations as they are."""
        return _frames


def in_unit(frames: Tensor) -> Tensor:
    """Bytes as floats in [0, 1]; floats as they are."""
    return frames.float() / 255 if frames.dtype == torch.uint8 else frames


def _frames(batch: Batch) -> Tensor:
    frames: Tensor = batch["views"][0]
    return frames
