"""The jumping task: an agent runs right and must jump over an obstacle at the one right moment.

A world of ``side`` pixels: the agent, a rectangle on the floor, moves one pixel right a step. A
jump lifts it one pixel a step up to ``reach`` and lets it down again; in the air no action counts.
The obstacle is cleared where the agent is at its height or above while they share a column. Its
width is such that exactly one moment of jumping works (Tachet des Combes et al. 2018, as PSE's
section 5.1 uses it; the constants are our own).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from unlabeled.data.control import FRAMES, ControlSource, Runs
from unlabeled.data.images import no_split

RIGHT, JUMP = 0, 1
AGENT, OBSTACLE, FLOOR = 1.0, 0.5, 0.25


@dataclass(frozen=True, kw_only=True)
class JumpSpec:
    """Sizes in pixels: the world, the agent, the obstacle, and how high a jump goes.

    Raises:
        ValueError: sizes for which no moment of jumping, or more than one, clears the obstacle.
    """

    side: int = 60
    agent: tuple[int, int] = (5, 8)
    obstacle: tuple[int, int] = (7, 10)
    reach: int = 15

    def __post_init__(self) -> None:
        over, shared = 2 * (self.reach - self.obstacle[1]) + 1, self.agent[0] + self.obstacle[0] - 1
        if over != shared:
            raise ValueError(
                f"the agent is high enough for {over} steps and shares columns for {shared}: give "
                "sizes for which these are equal"
            )

    def moment(self, position: Tensor) -> Tensor:
        """The agent's left edge at which it must jump for an obstacle at ``position``."""
        return position - self.agent[0] + 1 - self.obstacle[1]

    @property
    def channels(self) -> int:
        """Stacked frames."""
        return FRAMES


class World(NamedTuple):
    """Tasks side by side: all [B] int64.

    ``position`` of the obstacle's left edge, ``floor`` height, the agent's left edge ``x``, and
    ``air``, steps since it jumped (0 on the floor).
    """

    position: Tensor
    floor: Tensor
    x: Tensor
    air: Tensor

    @staticmethod
    def start(position: Tensor, floor: Tensor) -> World:
        """The agent stands at the left."""
        return World(position, floor, torch.zeros_like(position), torch.zeros_like(position))

    def height(self, spec: JumpSpec) -> Tensor:
        """[B]: of the agent over the floor."""
        return torch.minimum(self.air, 2 * spec.reach - self.air)

    def step(self, action: Tensor, spec: JumpSpec) -> World:
        """Move one pixel right; jump where the agent is on the floor and asked to."""
        begins = (self.air == 0) & (action == JUMP)
        air = torch.where((self.air > 0) | begins, self.air + 1, self.air) % (2 * spec.reach)
        return self._replace(x=self.x + 1, air=air)

    def hit(self, spec: JumpSpec) -> Tensor:
        """[B] bool: whether agent and obstacle overlap."""
        shares = (self.x + spec.agent[0] > self.position) & (
            self.x < self.position + spec.obstacle[0]
        )
        return shares & (self.height(spec) < spec.obstacle[1])

    def passed(self, spec: JumpSpec) -> Tensor:
        """[B] bool: whether the obstacle lies behind."""
        return self.x >= self.position + spec.obstacle[0]

    def draw(self, spec: JumpSpec) -> Tensor:
        """[B, side, side]: white agent, gray obstacle, floor line, on black."""
        row = spec.side - 1 - torch.arange(spec.side)[None, :, None]  # height over the bottom
        column = torch.arange(spec.side)[None, None]
        x, position, floor = (v[:, None, None] for v in (self.x, self.position, self.floor))
        bottom = floor + 1 + self.height(spec)[:, None, None]
        agent = (column >= x) & (column < x + spec.agent[0])
        agent = agent & (row >= bottom) & (row < bottom + spec.agent[1])
        thing = (column >= position) & (column < position + spec.obstacle[0])
        thing = thing & (row > floor) & (row <= floor + spec.obstacle[1])
        image = FLOOR * (row == floor) + OBSTACLE * thing
        return torch.where(agent, AGENT, image.float())


@dataclass(frozen=True, kw_only=True)
class Jumping(ControlSource):
    """Optimal runs of some tasks; a sample is a whole run.

    Raw batches hold frames [B, T, 2, side, side] (the one before and this one), ``actions`` [B, T]
    and ``length`` [B]; runs end when the obstacle is behind, and their last frame is repeated.
    "test" are the tasks of the grid that "train" does not have.

    Args:
        world: sizes.
        positions: of the obstacle, first and last.
        floors: heights, first and last.
        train_positions: of the training tasks.
        train_floors: of the training tasks.
    """

    world: JumpSpec = JumpSpec()
    positions: tuple[int, int] = (20, 45)
    floors: tuple[int, int] = (10, 20)
    train_positions: tuple[int, ...] = (20, 25, 30, 35, 40, 45)
    train_floors: tuple[int, ...] = (10, 15, 20)

    @property
    def name(self) -> str:
        """``jumping-60``."""
        return f"jumping-{self.world.side}"

    def tasks(self, split: str) -> tuple[Tensor, Tensor]:
        """[N] positions and [N] floor heights."""
        if split not in ("train", "test"):
            raise no_split(self.name, split, ("train", "test"))
        train = {(p, f) for p in self.train_positions for f in self.train_floors}
        whole = [
            (p, f)
            for p in range(self.positions[0], self.positions[1] + 1)
            for f in range(self.floors[0], self.floors[1] + 1)
        ]
        chosen = [each for each in whole if (each in train) == (split == "train")]
        position, floor = torch.tensor(chosen).T
        return position, floor

    def size(self, split: str) -> int:
        """Return the number of tasks."""
        return len(self.tasks(split)[0])

    def spec(self) -> JumpSpec:
        """Return the world."""
        return self.world

    def split(self, name: str) -> Runs:
        """Return the optimal runs of "train" or "test"."""
        return _runs(self, name)

    def start(self, tasks: Sequence[Tensor]) -> Jumps:
        """Stand at the left of worlds with obstacles at [B] positions, over [B] floor heights."""
        return Jumps(self.world, *tasks)


class Jumps:
    """Worlds side by side that a policy acts in, until the obstacle is behind in all.

    Solved is a task in which the agent gets past the obstacle without touching it.
    """

    def __init__(self, spec: JumpSpec, position: Tensor, floor: Tensor) -> None:
        self.spec, self.world = spec, World.start(position, floor)
        self.before = self.world.draw(spec)
        self.fine = ~self.world.hit(spec)

    @property
    def over(self) -> bool:
        """Whether the obstacle is behind in all of them."""
        return bool(self.world.passed(self.spec).all())

    def observe(self) -> Tensor:
        """[B, 2, side, side]: the frame before and this one."""
        return torch.stack([self.before, self.world.draw(self.spec)], 1)

    def step(self, action: Tensor) -> None:
        """Move on."""
        self.before = self.world.draw(self.spec)
        self.world = self.world.step(action, self.spec)
        self.fine &= ~self.world.hit(self.spec)

    def scores(self) -> dict[str, Tensor]:
        """``solved`` [B]."""
        return {"solved": self.fine}


@lru_cache(maxsize=4)
def _runs(data: Jumping, split: str) -> Runs:
    position, floor = data.tasks(split)
    world, spec = World.start(position, floor), data.world
    moment = spec.moment(position)
    if int(moment.min()) < 0:
        raise ValueError(f"an obstacle at {int(position.min())} is too near: use larger positions")
    before = world.draw(spec)
    frames, actions = [], []
    over = torch.zeros_like(position)
    while not bool(world.passed(spec).all()):
        now = world.draw(spec)
        done = world.passed(spec)
        action = torch.where((world.x == moment) & ~done, JUMP, RIGHT)
        frames.append(torch.stack([before, now], 1))
        actions.append(action)
        over += ~done
        moved = world.step(action, spec)
        # a run that is over stands still: its last frame is repeated
        kept = (torch.where(done, old, new) for old, new in zip(world, moved, strict=True))
        before, world = now, World(*kept)
    return Runs(torch.stack(frames, 1), torch.stack(actions, 1), over)
