"""Rollouts: how many tasks a policy solves when it acts by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unlabeled.data.jumping import Jumping, World
from unlabeled.data.source import DataSource
from unlabeled.evaluators.evaluator import Figure, Measure

Policy = Callable[[Tensor], Tensor]
"""Observations [B, 2, H, W] to actions [B]."""


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """Share of tasks solved, in percent: of the tasks of test, and of those of train.

    A task is solved when the agent gets past the obstacle without touching it. Without a network:
    take the action of the training frame with the nearest pixels.
    """

    name: str = "rollouts"
    needs: str = "act"
    every: int | None = None
    protocol: str = "rollouts/jumping-v1"

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Act in all tasks at once."""
        jumping = _jumping(data)
        return [
            _measure(metric, solved(predict, jumping, split), jumping)
            for metric, split in (("solved", "test"), ("solved_train", "train"))
        ]

    def plain(self, data: DataSource) -> list[Measure]:
        """Copy the nearest training frame's action."""
        runs = _jumping(data).split("train")
        inside = torch.arange(runs.frames.shape[1]) < runs.length[:, None]
        known, action = runs.frames[inside].flatten(1), runs.actions[inside]

        def nearest(frames: Tensor) -> Tensor:
            return action[torch.cdist(frames.flatten(1), known).argmin(1)]

        return self.judge(nearest, data)

    def figures(self, predict: Any, data: DataSource) -> list[Figure]:
        """A film of nine test tasks side by side."""
        jumping = _jumping(data)
        position, floor = jumping.tasks("test")
        chosen = torch.linspace(0, len(position) - 1, 9).round().long()
        frames = [now for now, _ in _acted(predict, jumping, position[chosen], floor[chosen])]
        film = torch.stack(frames)
        film = torch.nn.functional.pad(film, (1, 1, 1, 1), value=0.4)
        side = film.shape[-1]
        grid = film.view(-1, 3, 3, side, side).transpose(2, 3).reshape(-1, 1, 3 * side, 3 * side)
        big = grid.repeat_interleave(3, 2).repeat_interleave(3, 3)
        return [Figure("The policy in nine tasks that it has not seen", big, rate=10.0)]


@torch.no_grad()
def solved(policy: Policy, data: Jumping, split: str) -> Tensor:
    """[N] bool: which tasks of a split a policy solves."""
    position, floor = data.tasks(split)
    fine = torch.ones_like(position, dtype=torch.bool)
    for _, hit in _acted(policy, data, position, floor):
        fine &= ~hit
    return fine


@torch.no_grad()
def _acted(policy: Policy, data: Jumping, position: Tensor, floor: Tensor) -> Any:
    """Yield the frames [B, H, W] of all steps, and who touches the obstacle there."""
    spec = data.world
    world = World.start(position, floor)
    before = world.draw(spec)
    while not bool(world.passed(spec).all()):
        now = world.draw(spec)
        yield now, world.hit(spec)
        world = world.step(policy(torch.stack([before, now], 1)).cpu(), spec)
        before = now


def _jumping(data: DataSource) -> Jumping:
    if not isinstance(data, Jumping):
        raise ValueError(f"{data.name} is no jumping task: rollouts need one")
    return data


def _measure(metric: str, fine: Tensor, data: Jumping) -> Measure:
    hits = fine.float()
    return Measure(
        metric=metric,
        value=100 * float(hits.mean()),
        train=data.size("train"),
        test=len(fine),
        hits=hits,
    )
