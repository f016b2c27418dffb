"""Schedules: pure functions of the clock, so there is nothing to checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple


class Clock(NamedTuple):
    """Where training is. ``step`` counts optimizer steps from 0 to ``steps``.

    ``play`` counts, from 0 within a step, the turns of a method with several players and their
    repeats, for randomness that each has to itself; it is 0 elsewhere.
    """

    step: int = 0
    steps: int = 1
    epoch_steps: int = 1
    play: int = 0

    @property
    def progress(self) -> float:
        """Share of the run that is done, in [0, 1]."""
        return self.step / max(1, self.steps)

    @property
    def epoch(self) -> float:
        """Epochs done, a real number."""
        return self.step / self.epoch_steps


Schedule = Callable[[Clock], float]


def constant(value: float) -> Schedule:
    """Return the schedule that is always ``value``."""
    return partial(_constant, value=value)


def linear(start: float, end: float, *, epochs: float | None = None) -> Schedule:
    """Go from ``start`` to ``end`` in a straight line, over ``epochs`` or the whole run."""
    return partial(_linear, start=start, end=end, epochs=epochs)


def cosine(
    start: float, end: float = 0.0, *, warmup: float = 0.0, warmup_from: float = 0.0
) -> Schedule:
    """Half a cosine from ``start`` to ``end``, after ``warmup`` epochs in a straight line.

    After the warm-up, with p the share of the remaining steps that is done:
    ``end + (start - end) (1 + cos(pi p)) / 2``. A warm-up longer than a tenth of the run is cut
    to a tenth, so that a short run still trains (SGDR, arXiv:1608.03983, without restarts).
    """
    return partial(_cosine, start=start, end=end, warmup=warmup, warmup_from=warmup_from)


def warm_cosine(start: float, *, warmup: float) -> Schedule:
    """Rise to ``start`` in a straight line over a share of the run, then half a cosine to 0.

    For warm-ups that are longer than the tenth of the run at which `cosine` cuts them.

    Raises:
        ValueError: ``warmup`` is not a share in [0, 1).
    """
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup is {warmup}: give a share of the run in [0, 1)")
    return partial(_warm_cosine, start=start, warmup=warmup)


def inverse_decay(start: float, *, gamma: float = 10.0, power: float = 0.75) -> Schedule:
    """``start (1 + gamma p)^-power`` with p the share of the run (DANN, arXiv:1505.07818)."""
    return partial(_inverse_decay, start=start, gamma=gamma, power=power)


def exponential(start: float, end: float) -> Schedule:
    """``start (end / start)^p`` with p the share of the run that is done."""
    if not min(start, end) > 0:
        raise ValueError(f"start is {start}, end {end}: give values above 0")
    return partial(_exponential, start=start, end=end)


def warm_linear(peak: float, *, warmup: float) -> Schedule:
    """Rise to ``peak`` in a straight line over a share of the run, then fall in one to 0.

    Raises:
        ValueError: ``warmup`` is not a share in [0, 1).
    """
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup is {warmup}: give a share of the run in [0, 1)")
    return partial(_warm_linear, peak=peak, warmup=warmup)


def steps(start: float, *, at: tuple[float, ...], factor: float = 0.1) -> Schedule:
    """``start`` times ``factor`` for each share of the run in ``at`` that has passed."""
    return partial(_steps, start=start, at=at, factor=factor)


def stairs(*values: float, at: tuple[float, ...]) -> Schedule:
    """The first value until the first share of the run in ``at``, then the second, and so on.

    Raises:
        ValueError: there is not one value more than there are shares.
    """
    if len(values) != len(at) + 1:
        raise ValueError(f"{len(values)} values and {len(at)} shares: give one value more")
    return partial(_stairs, values=values, at=at)


def warm_steps(
    start: float, *, at: tuple[float, ...], warmup: float, factor: float = 0.1
) -> Schedule:
    """`steps` after ``warmup`` epochs in a straight line from 0, cut to a tenth of the run."""
    return partial(_warm_steps, start=start, at=at, factor=factor, warmup=warmup)


def _constant(clock: Clock, *, value: float) -> float:
    return value


def _linear(clock: Clock, *, start: float, end: float, epochs: float | None) -> float:
    share = clock.progress if epochs is None else min(1.0, clock.epoch / epochs)
    return start + (end - start) * share


def _cosine(clock: Clock, *, start: float, end: float, warmup: float, warmup_from: float) -> float:
    warm = min(warmup * clock.epoch_steps, clock.steps / 10)
    if clock.step < warm:
        return warmup_from + (start - warmup_from) * clock.step / warm
    share = (clock.step - warm) / max(1.0, clock.steps - warm)
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, share))) / 2


def _warm_cosine(clock: Clock, *, start: float, warmup: float) -> float:
    if clock.progress < warmup:
        return start * clock.progress / warmup
    share = (clock.progress - warmup) / (1 - warmup)
    return start * (1 + math.cos(math.pi * min(1.0, share))) / 2


def _warm_linear(clock: Clock, *, peak: float, warmup: float) -> float:
    if clock.progress < warmup:
        return peak * clock.progress / warmup
    return peak * (1 - clock.progress) / (1 - warmup)


def _inverse_decay(clock: Clock, *, start: float, gamma: float, power: float) -> float:
    return start * (1 + gamma * clock.progress) ** -power


def _exponential(clock: Clock, *, start: float, end: float) -> float:
    return start * (end / start) ** clock.progress


def _steps(clock: Clock, *, start: float, at: tuple[float, ...], factor: float) -> float:
    return start * factor ** sum(clock.progress >= point for point in at)


def _stairs(clock: Clock, *, values: tuple[float, ...], at: tuple[float, ...]) -> float:
    return values[sum(clock.progress >= point for point in at)]


def _warm_steps(
    clock: Clock, *, start: float, at: tuple[float, ...], factor: float, warmup: float
) -> float:
    warm = min(warmup * clock.epoch_steps, clock.steps / 10)
    if clock.step < warm:
        return start * clock.step / warm
    return _steps(clock, start=start, at=at, factor=factor)
