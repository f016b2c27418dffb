"""DmControl: runs of an expert, from pixels, in copies of a task that look different.

The DeepMind Control Suite (arXiv:1801.00690) simulated by MuJoCo; looks vary as in the Distracting
Control Suite (arXiv:2101.02722): colors of all materials, of floor and background, light and
camera. MuJoCo draws without a screen through EGL, on the CPU where there is no GPU.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlabeled.data.control import FRAMES, ControlSource, Runs, in_unit
from unlabeled.data.images import cache_folder, no_split
from unlabeled.data.order import permutation
from unlabeled.extras import require

TASKS = ("cartpole-balance", "cartpole-swingup")
"""For which there is an expert."""
FORCES = (-0.5, 0.5)
"""What actions 0 and 1 are: in units of the task, whose largest force is 1 (10 N)."""
REPEAT = 8
"""Simulation steps (0.01 s) that an action lasts, as for these tasks in PlaNet and DrQ."""
DECISIONS = 125
"""Of an episode of 10 s."""
GAIN = (-0.21, -3.16, -0.30, -0.82)
"""Of the state (cart, angle, and their velocities): the linear-quadratic regulator of the pole that
stands, held for 0.08 s, with costs diag(1, 1, 0.1, 0.1) of the state and 10 of the force."""
UPRIGHT = 0.8
"""Cosine of the pole's angle from which on the expert balances, and which counts as standing."""
PUSHES = (0.3, 0.25, 0.5, 0.6)
"""Runs to learn from start up to so far from the task's own start: m, rad, m/s, rad/s."""
GRAVITY = 9.81
COLOR = 0.3
"""How far the red, green and blue of a material differ from their own, at most, in [0, 1]."""
CAMERA = (0.1, 0.2, 0.1)
"""How far the camera is from its own place, at most: m to the side, to the front, and up."""
VIEW = 36
"""Degrees that the camera sees, in place of 45: the pole is thin in few pixels."""
REMEDY = (
    "MuJoCo cannot draw without a screen here: apt-get install libegl1 libegl-mesa0 "
    "libgl1-mesa-dri libgles2 (or libosmesa6 and MUJOCO_GL=osmesa)"
)


@dataclass(frozen=True, kw_only=True)
class PixelSpec:
    """Color frames of ``side`` pixels, two of them stacked."""

    side: int

    @property
    def channels(self) -> int:
        """Of both frames."""
        return 3 * FRAMES


@dataclass(frozen=True, kw_only=True)
class DmControl(ControlSource):
    """A task of the suite in several looks, some for training, others for test.

    A run has the same start, and so the same states, in each look of a split, and an epoch reads
    these copies one after the other: methods compare neighbors (PSE, section 5.3: "two copies of
    the same episodes"). Policies are judged from the task's own starts, in episodes of 10 s.
    Runs are simulated once and kept in the cache folder.

    Args:
        environment: ``domain-task`` of the suite.
        side: height and width in pixels.
        train_looks: copies of the task to learn in; 0 is the first.
        test_looks: the next ones, to be judged in.
        starts: runs of each look to learn from.
        trials: episodes of each look to be judged by, and runs of each look of "test".
        steps: length of a run, in actions of 0.08 s.
    """

    environment: str = "cartpole-balance"
    side: int = 40
    train_looks: int = 2
    test_looks: int = 8
    starts: int = 192
    trials: int = 2
    steps: int = 8

    def __post_init__(self) -> None:
        if self.environment not in TASKS:
            near = get_close_matches(self.environment, TASKS, n=1)
            hint = f" Did you mean dm_control/{near[0]}?" if near else ""
            raise ValueError(
                f"dm_control/{self.environment}: there is no expert for it.{hint} Give dm_control/"
                f"{' or dm_control/'.join(TASKS)}"
            )
        if not 0 < self.steps <= DECISIONS:
            raise ValueError(f"steps is {self.steps}: give 1 to {DECISIONS}")

    @property
    def name(self) -> str:
        """``cartpole-balance-40``."""
        return f"{self.environment}-{self.side}"

    def size(self, split: str) -> int:
        """Return the number of runs."""
        return len(self._looks(split)) * (self.starts if split == "train" else self.trials)

    def spec(self) -> PixelSpec:
        """Return the side."""
        return PixelSpec(side=self.side)

    def split(self, name: str) -> Runs:
        """Return the expert's runs in the looks of "train" or "test", look by look."""
        self._looks(name)
        return _runs(self, name)

    def epoch_order(self, *, seed: int, epoch: int) -> Tensor:
        """[N]: starts in random order, the looks of each side by side."""
        order = permutation(self.starts, seed=seed, epoch=epoch)
        return (order[:, None] + self.starts * torch.arange(self.train_looks)).flatten()

    def tasks(self, split: str) -> tuple[Tensor, Tensor]:
        """[B] looks and [B] numbers of the start."""
        looks = self._looks(split)
        return looks.repeat_interleave(self.trials), torch.arange(self.trials).repeat(len(looks))

    def start(self, tasks: Sequence[Tensor]) -> Episodes:
        """Begin episodes at the task's own starts."""
        looks, numbers = tasks
        starts = [_simulator(self.environment).start(1000 + int(number)) for number in numbers]
        return Episodes(self, looks.tolist(), starts)

    def _looks(self, split: str) -> Tensor:
        if split not in ("train", "test"):
            raise no_split(self.name, split, ("train", "test"))
        looks = torch.arange(self.train_looks + self.test_looks)
        return looks[: self.train_looks] if split == "train" else looks[self.train_looks :]


class Episodes:
    """Copies of a task that a policy acts in for 10 s.

    ``solved``: the pole stands in all of the second half; ``return``: the sum of rewards, at most
    1000, as the suite counts it.
    """

    def __init__(
        self, data: DmControl, looks: Sequence[int], states: Sequence[NDArray[np.float64]]
    ) -> None:
        self.simulator = _simulator(data.environment)
        self.scenes = [_scene(data.environment, look, data.side) for look in looks]
        self.states, self.time = list(states), 0
        self.total = torch.zeros(len(self.states))
        self.stands = torch.ones(len(self.states), dtype=torch.bool)
        self.now = self.before = self._draw()

    @property
    def over(self) -> bool:
        """Whether 10 s have passed."""
        return self.time == DECISIONS

    def pixels(self) -> Tensor:
        """[B, 6, side, side] uint8: the frame before and this one."""
        return torch.cat([self.before, self.now], 1)

    def observe(self) -> Tensor:
        """[B, 6, side, side] in [0, 1]."""
        return in_unit(self.pixels())

    def step(self, action: Tensor) -> None:
        """Push all carts for 0.08 s."""
        self.time += 1
        for place, choice in enumerate(action.tolist()):
            self.states[place], reward = self.simulator.step(self.states[place], FORCES[choice])
            self.total[place] += reward
            fallen = np.cos(self.states[place][1]) < UPRIGHT
            if fallen and self.time > DECISIONS // 2:
                self.stands[place] = False
        self.before, self.now = self.now, self._draw()

    def scores(self) -> dict[str, Tensor]:
        """``solved`` and ``return``."""
        return {"solved": self.stands, "return": self.total}

    def _draw(self) -> Tensor:
        drawn = (scene.draw(state) for scene, state in zip(self.scenes, self.states, strict=True))
        return torch.from_numpy(np.stack(list(drawn))).movedim(3, 1)


def expert(state: NDArray[np.float64]) -> int:
    """The action: -1 or 1 of a linear regulator where the pole stands, else of its energy.

    ``u = -GAIN s`` near the top; below, ``E w cos(angle)`` with the energy E of a rod of 1 m, which
    is 0 at the top, adds energy while there is too little (Astrom and Furuta 2000).
    """
    angle = (state[1] + np.pi) % (2 * np.pi) - np.pi
    height, speed = np.cos(angle), state[3]
    if height > UPRIGHT:
        return int(np.dot(GAIN, (state[0], angle, state[2], speed)) < 0)
    energy = speed**2 / 6 + GRAVITY / 2 * (height - 1)
    return int(energy * speed * height > 0)


# MuJoCo ------------------------------------------------------------------------------------------


class Simulator:
    """The physics of a task, as a function of its state alone: positions, then velocities."""

    def __init__(self, environment: str) -> None:
        self.env = load(environment)

    def start(self, number: int) -> NDArray[np.float64]:
        """Return a start of the task's own."""
        self.env.task.random.seed(number)
        self.env.reset()
        return self.env.physics.get_state().copy()

    def step(self, state: NDArray[np.float64], force: float) -> tuple[NDArray[np.float64], float]:
        """Return the state after an action, and the sum of rewards."""
        physics, total = self.env.physics, 0.0
        _put(physics, state)
        for _ in range(REPEAT):
            physics.set_control([force])
            physics.step()
            total += float(self.env.task.get_reward(physics))
        return physics.get_state().copy(), total


class Scene:
    """A look of a task: random colors of all materials, floor and background, light, and camera."""

    def __init__(self, environment: str, look: int, side: int) -> None:
        self.physics = load(environment).physics
        model, draw = self.physics.model, np.random.default_rng((127, look))
        change = draw.uniform(-COLOR, COLOR, (model.nmat, 3))
        model.mat_rgba[:, :3] = (model.mat_rgba[:, :3] + change).clip(0, 1)
        first = model.tex_adr[model.name2id("skybox", "texture")]
        sky = model.tex_data[first : first + 3 * 4800 * 800].reshape(-1, 3)
        sky[:] = sky * draw.uniform(1 - COLOR, 1, 3)
        model.light_diffuse[:] *= draw.uniform(1 - COLOR, 1)
        model.cam_pos[0] += draw.uniform(-1, 1, 3) * CAMERA
        model.cam_fovy[0] = VIEW
        engine = require("dm_control.mujoco.engine", extra="control")
        self.camera = engine.Camera(self.physics, side, side, camera_id=0)
        flag = require("mujoco", extra="control").mjtRndFlag
        for slow in (flag.mjRND_SHADOW, flag.mjRND_REFLECTION):  # nine tenths of the time
            self.camera.scene.flags[slow] = 0

    def draw(self, state: NDArray[np.float64]) -> NDArray[np.uint8]:
        """[side, side, 3]."""
        _put(self.physics, state)
        return np.array(self.camera.render())


def load(environment: str) -> Any:
    """Return a task of the suite.

    Raises:
        ImportError: dm_control is not installed; the message names the extra.
        RuntimeError: nothing to draw with; the message names the packages.
    """
    require("dm_control", extra="control")
    with suppress(ImportError):
        # its LLVM and that of Mesa's software renderer crash in one process unless it comes first;
        # torch imports it late, with the first optimizer
        import_module("triton")
    if sys.platform == "linux":
        os.environ.setdefault("MUJOCO_GL", "egl")  # read when the suite is imported
    try:
        suite = require("dm_control.suite", extra="control")
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        raise RuntimeError(f"{REMEDY}: {error}") from error
    return suite.load(*environment.split("-"))


def _put(physics: Any, state: NDArray[np.float64]) -> None:
    with physics.reset_context():
        physics.set_state(state)


_simulator = lru_cache(maxsize=4)(Simulator)
_scene = lru_cache(maxsize=32)(Scene)


# The cache folder --------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _runs(data: DmControl, split: str) -> Runs:
    # another version of this file makes its runs anew
    key = sha256(repr(data).encode() + Path(__file__).read_bytes()).hexdigest()[:16]
    path = cache_folder("dm_control") / f"{data.name}-{split}-{key}.npz"
    if not path.is_file():
        _write(path, *_simulated(data, split))
    try:
        with np.load(path) as stored:
            frames, actions = (torch.from_numpy(stored[key]) for key in ("frames", "actions"))
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise ValueError(f"{path} cannot be read ({error}): delete it") from error
    return Runs(frames, actions, torch.full((len(frames),), data.steps))


def _simulated(data: DmControl, split: str) -> tuple[Tensor, Tensor]:
    looks = data._looks(split).tolist()
    count = data.size(split) // len(looks)
    starts = []
    for number in range(count):
        start = _simulator(data.environment).start(number + 2000 * (split == "test"))
        push = np.random.default_rng((number, split == "test")).uniform(-1, 1, 4) * PUSHES
        starts.append(start + push)
    episodes = Episodes(data, [look for look in looks for _ in starts], starts * len(looks))
    frames, actions = [], []
    for _ in range(data.steps):
        frames.append(episodes.pixels())
        actions.append(torch.tensor([expert(state) for state in episodes.states]))
        episodes.step(actions[-1])
    return torch.stack(frames, 1), torch.stack(actions, 1)


def _write(path: Path, frames: Tensor, actions: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, frames=frames.numpy(), actions=actions.numpy())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
