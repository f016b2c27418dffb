"""Rollouts: how many tasks a policy solves when it acts by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from unlabeled.data.control import FRAMES, ControlSource
from unlabeled.data.source import DataSource
from unlabeled.evaluators.evaluator import Figure, Measure

Policy = Callable[[Tensor], Tensor]
"""Observations [B, C, H, W] to actions [B]."""
FILM_SIDE = 342


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """What a policy reaches when it acts: in the tasks of test, and in those of train.

    The source says which tasks there are and how each is scored: shares of them in percent, such
    as ``solved``, and means, such as ``return``. Without a network: take the action of the training
    step whose observation has the nearest pixels.

    Args:
        name: for tables.
        needs: the predictor.
        every: epochs between two calls during training.
        protocol: named after the tasks.
    """

    name: str = "rollouts"
    needs: str = "act"
    every: int | None = None
    protocol: str = "rollouts/jumping-v1"

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Act in all tasks at once."""
        source = _control(data)
        return [
            _measure(f"{metric}{suffix}", values, source)
            for split, suffix in (("test", ""), ("train", "_train"))
            for metric, values in acted(predict, source, split).items()
        ]

    def plain(self, data: DataSource) -> list[Measure]:
        """Copy the nearest training step's action."""
        known, action = _control(data).split("train").steps()
        known = known.flatten(1)

        def nearest(x: Tensor) -> Tensor:
            return action[torch.cdist(x.flatten(1), known).argmin(1)]

        return self.judge(nearest, data)

    def figures(self, predict: Any, data: DataSource) -> list[Figure]:
        """A film of nine test tasks, or four or one where there are fewer, side by side."""
        source = _control(data)
        tasks = source.tasks("test")
        count = min(3, isqrt(len(tasks[0])))
        chosen = torch.linspace(0, len(tasks[0]) - 1, count**2).round().long()
        film: list[Tensor] = []
        _act(predict, source, [fact[chosen] for fact in tasks], film)
        frames = pad(torch.stack(film), (1, 1, 1, 1), value=0.4)
        grid = frames.unflatten(1, (count, count)).permute(0, 3, 1, 4, 2, 5)
        grid = grid.flatten(4, 5).flatten(2, 3)
        scale = max(1, FILM_SIDE // grid.shape[-1])
        big = grid.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        number = {1: "one task", 2: "four tasks", 3: "nine tasks"}[count]
        return [Figure(f"The policy in {number} that it has not seen", big, rate=10.0)]


def acted(policy: Policy, data: ControlSource, split: str) -> dict[str, Tensor]:
    """[N] each: how a policy scores in the tasks of a split."""
    return _act(policy, data, data.tasks(split), [])


@torch.no_grad()
def _act(
    policy: Policy, data: ControlSource, tasks: Sequence[Tensor], film: list[Tensor]
) -> dict[str, Tensor]:
    """Act until all tasks are over; the newest frames [B, C, H, W] go to ``film``."""
    environments = data.start(tasks)
    while not environments.over:
        x = environments.observe()
        film.append(x[:, -x.shape[1] // FRAMES :])
        environments.step(policy(x).cpu())
    return environments.scores()


def _control(data: DataSource) -> ControlSource:
    if not isinstance(data, ControlSource):
        raise ValueError(f"{data.name} has no tasks to act in: rollouts need some")
    return data


def _measure(metric: str, values: Tensor, data: ControlSource) -> Measure:
    share = values.dtype == torch.bool
    hits = values.float()
    return Measure(
        metric=metric,
        value=(100 if share else 1) * float(hits.mean()),
        train=data.size("train"),
        test=len(hits),
        hits=hits,
        unit="%" if share else "",
    )
