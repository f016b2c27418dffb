"""Plan: a recipe fitted to the data and to what the user changed, before anything is written."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from unlabeled.data import open_data
from unlabeled.data.source import DataSource
from unlabeled.recipe import Recipe, override
from unlabeled.registry import find_recipe


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run before it starts: the recipe in use, and what was fitted to the data or overridden."""

    name: str
    recipe: Recipe
    steps: int
    epoch_steps: int
    fitted: tuple[str, ...]
    overrides: Mapping[str, Any]
    out: Path
    grad_cache: int | None = None
    compile: bool = False

    @property
    def epochs(self) -> int:
        """Whole passes over the data."""
        return self.steps // self.epoch_steps


def make_plan(
    recipe: str | Recipe,
    *,
    data: str | DataSource | None = None,
    encoder: str | None = None,
    epochs: float | None = None,
    batch_size: int | None = None,
    precision: str | None = None,
    seed: int | None = None,
    init: str | None = None,
    out: str | Path | None = None,
    grad_cache: int | None = None,
    compile: bool = False,
    devices: int = 1,
    overrides: Mapping[str, Any] | None = None,
) -> Plan:
    """Fit a recipe to the data and apply what the user changed; nothing is written.

    ``grad_cache``, ``compile`` and ``devices`` say how it runs and are no fields of the recipe.
    """
    name = recipe if isinstance(recipe, str) else "recipe"
    chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe
    if isinstance(recipe, str) and ":" not in recipe:
        name = f"{recipe}:small"
    changes: dict[str, Any] = {
        key: value
        for key, value in {
            "epochs": epochs,
            "batch_size": batch_size,
            "precision": precision,
            "seed": seed,
            **(overrides or {}),
        }.items()
        if value is not None
    }
    fitted: tuple[str, ...] = ()
    if data is not None:
        source = open_data(data) if isinstance(data, str) else data
        # what is said about the data (its order of axes, its channels) comes before its facts
        about = {key: value for key, value in changes.items() if key.startswith("data.")}
        source = override(replace(chosen, data=source), about).data
        chosen, fitted = fit_to_data(chosen, source, fixed=changes)
    if encoder is not None:
        from unlabeled.encoders.image import image_encoder

        chosen = replace(chosen, encoder=image_encoder(encoder))
    chosen = override(chosen, changes)
    chosen = replace(chosen.fitted(), precision=resolve_precision(chosen.precision))
    shown = {
        key: value
        for key, value in {
            **changes,
            "data": data,
            "encoder": encoder,
            "init": init,
            "grad_cache": grad_cache,
            "compile": compile or None,
        }.items()
        if value is not None
    }
    samples = chosen.data.size("train")
    if samples < 2 * chosen.accumulate or samples < chosen.batch_size:
        raise ValueError(
            f"batch_size {chosen.batch_size} is larger than the {samples} training samples of "
            f"{chosen.data.name}: use --batch-size {max(2, samples // 2)} or less"
        )
    if grad_cache is not None:
        _check_grad_cache(grad_cache, chosen, devices=devices)
    epoch_steps = samples // chosen.batch_size
    steps = max(1, round(chosen.epochs * epoch_steps))
    steps = steps if chosen.steps is None else min(steps, chosen.steps)
    where = Path(out) if out is not None else _default_out(name, chosen.data.name)
    return Plan(
        name=name,
        recipe=chosen,
        steps=steps,
        epoch_steps=epoch_steps,
        fitted=fitted,
        overrides={key: str(value) for key, value in shown.items()},
        out=where,
        grad_cache=grad_cache,
        compile=compile,
    )


def _check_grad_cache(chunk: int, recipe: Recipe, *, devices: int) -> None:
    at_once = recipe.batch_size // recipe.accumulate // devices
    if chunk < 1:
        raise ValueError(f"grad_cache is {chunk}: give the samples of a chunk, at least 1")
    if chunk >= at_once:
        raise ValueError(
            f"grad_cache {chunk} does nothing: the encoder sees {at_once} samples at once; give "
            "fewer, or leave it out"
        )


def fit_to_data(
    recipe: Recipe, data: DataSource, *, fixed: Mapping[str, Any]
) -> tuple[Recipe, tuple[str, ...]]:
    """Put other data into a recipe, keeping its number of optimizer steps; say what changed.

    Fields in ``fixed`` are the user's and stay. Few samples get a smaller batch: at least four
    steps an epoch, so that an epoch remains a pass over the data in random order.
    """
    if data.modality != recipe.data.modality:
        raise ValueError(
            f"{data.name} is {data.modality} data, this recipe takes {recipe.data.modality} data: "
            "choose another recipe (`unlabeled list` says the modality of each) or other data"
        )
    samples = data.size("train")
    if samples < 2:
        raise ValueError(f"{data.name} has {samples} training sample: at least 2 are needed")
    notes = []
    batch_size = int(fixed.get("batch_size", recipe.batch_size))
    if "batch_size" not in fixed and samples < 4 * batch_size:
        # a power of two, as methods split it, and 16 where there are so many: losses need company
        wanted = min(samples, max(16, samples / 4))
        batch_size = 2 ** int(math.log2(wanted))
        notes.append(f"batch_size {batch_size} ({samples:,} samples; lr follows)")
    epochs = recipe.epochs
    if "epochs" not in fixed and "steps" not in fixed:
        # as many images as the recipe sees on its own data, but at least 10 passes, at most 1,000
        planned = recipe.epochs * (recipe.data.size("train") // recipe.batch_size)
        epochs = planned / max(1, samples // batch_size)
        if epochs > recipe.epochs:
            epochs = float(min(1000, max(10, math.ceil(epochs))))
            notes.append(f"epochs {epochs:g} ({round(planned)} steps, as the recipe has)")
        else:
            epochs = recipe.epochs
    fitted = replace(recipe, data=data, batch_size=batch_size, epochs=epochs)
    return fitted, tuple(notes)


def resolve_precision(precision: str) -> str:
    """Turn "auto" into bf16-mixed where the hardware computes in it, else 32-true."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if _cpu_has_bf16() else "32-true"


def _cpu_has_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return platform.machine() == "x86_64" and ("avx512_bf16" in flags or "amx_bf16" in flags)


def _default_out(name: str, data: str) -> Path:
    stem = name.replace(":", "-").replace("/", "_").removesuffix(".py")
    return Path("runs") / f"{stem}-{Path(data).name}"
