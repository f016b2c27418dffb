"""Time to a kNN accuracy on Fashion-MNIST: `simclr:small` beside lightly's stack, step by step.

Both train the same network with the same head, loss, optimizer, schedule and batch size from the
same weights; views as each has them. Every few steps both encoders are judged by kNN (k = 20) on
rows of the *training* split: 10,000 that vote, 2,000 others that are asked; test is not read. The
time of an encoder is that of its own steps only, and the figure is where it first reaches the
accuracy; the run ends when both have. With --quick the steps are few and no accuracy is asked for.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import OWN, Runs, Timing, arguments, by, peer, report
from _steps import LightlySimCLR, Steps, lightly, ours
from step import lightly_transform
from torch import Tensor

from unlabeled.data.fashion_mnist import FashionMnist, find
from unlabeled.evaluators.knn import Knn
from unlabeled.features import Features
from unlabeled.method import Clock
from unlabeled.methods.image import simclr

THRESHOLD = 80.0
"""Percent: the network has about 76 after a few steps."""
STEPS, EVERY = 140, 20


def main() -> None:
    options = arguments(__doc__)
    try:
        find(None)
    except FileNotFoundError as error:
        raise SystemExit(f"skipped: {error}") from None
    steps, every = (6, 3) if options.quick else (STEPS, EVERY)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    recipe = replace(simclr.small(), steps=steps + 1).fitted()
    samples = FashionMnist().split("train")
    rows = samples.__getitems__(list(range(0, 60_000, 5)))
    x = recipe.data.prepare(recipe.views.spec)(rows).to(device)
    seconds: dict[str, list[float]] = {}
    curves: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[str, tuple[Steps, Any]] = {
            OWN: (ours(recipe, Path(folder) / "run", device=device), lambda m: m.method.encoder)
        }
        if peer("lightly"):
            runs["lightly"] = (theirs(recipe, steps, device), lambda m: m.encoder)
        for name in runs:
            seconds[name], curves[name] = [], []
        for number in range(1, steps + 1):
            for name, (step, encoder) in runs.items():
                cpu, wall = time.process_time(), time.perf_counter()
                step()
                if device == "cuda":
                    torch.cuda.synchronize()
                spent = time.perf_counter() - wall, time.process_time() - cpu
                seconds[name].append(spent[by() == "cpu"])
                if number % every == 0:
                    score = judge(encoder(step.module), x, rows["label"])
                    curves[name].append((sum(seconds[name][1:]), score))
                    print(f"  {name} step {number}: {sum(seconds[name][1:]):.1f} s, {score:.1f} %")
            if not options.quick and all(
                any(score >= THRESHOLD for _, score in curve) for curve in curves.values()
            ):
                break
        for step, _ in runs.values():
            step.__exit__(None, None, None)
    goal = 0.0 if options.quick else THRESHOLD
    times = {name: reached(curve, goal) for name, curve in curves.items()}
    shown = Runs()
    for name, spent in times.items():
        shown[name] = Timing([spent], [spent], note=f"best {max(s for _, s in curves[name]):.1f} %")
    if "lightly" not in runs:
        shown.absent["lightly"] = "not installed"
    report(
        f"time to {goal:g} % kNN on Fashion-MNIST, batch {recipe.batch_size}, {device}",
        shown,
        peers=("lightly",),
        over_peer=1.15,
        note=f"{steps} steps, inf: not reached in them",
    )


def judge(encoder: Any, x: Tensor, label: Tensor) -> float:
    encoder.eval()
    with torch.inference_mode():
        found = torch.cat([encoder(part).float() for part in x.split(500)]).cpu()
    encoder.train()
    bank, asked = Features(found[:10_000], label[:10_000]), Features(found[10_000:], label[10_000:])
    return Knn(k=20).score(bank, asked)[0].value


def reached(curve: list[tuple[float, float]], goal: float) -> float:
    """Seconds until the curve first crosses the goal, by linear interpolation; inf: never."""
    before = None
    for spent, score in curve:
        if score >= goal:
            if before is None:
                return spent
            share = (goal - before[1]) / max(score - before[1], 1e-9)
            return before[0] + share * (spent - before[0])
        before = spent, score
    return float("inf")


def theirs(recipe: Any, steps: int, device: str) -> Steps:
    torch.manual_seed(recipe.seed)
    encoder = recipe.encoder(recipe.views.spec)
    module = ScheduledSimCLR(
        encoder,
        simclr.nonlinear_head(encoder.dim, 128),
        partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.02),
        0.1,
    )
    optim: Any = recipe.optim
    module.rate = lambda step: optim.lr(Clock(step, steps + 1, 60_000 // recipe.batch_size))
    count = 60_000 if steps > 20 else steps * recipe.batch_size + recipe.batch_size
    images = FashionMnist().split("train").__getitems__(list(range(count)))["views"][0]
    return lightly(
        module,
        np.asarray(images[:, 0]),
        lightly_transform(recipe),
        batch_size=recipe.batch_size,
        device=device,
    )


class ScheduledSimCLR(LightlySimCLR):
    """With the learning rates of our recipe."""

    rate: Any = None

    def on_train_batch_start(self, batch: Any, number: int) -> None:
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = self.rate(number)


if __name__ == "__main__":
    main()
