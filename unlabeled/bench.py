"""bench(): train and judge a recipe with several seeds, and store the figures in the catalog."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from unlabeled import catalog
from unlabeled.artifacts import Run, commit, environment
from unlabeled.catalog.result_files import RESULTS
from unlabeled.evaluation import evaluate
from unlabeled.evaluators.scores import RANDOM, RAW, Row, Scores
from unlabeled.plan import Plan, make_plan
from unlabeled.pretraining import pretrain
from unlabeled.recipe import Recipe, fingerprint
from unlabeled.registry import load_module

PROTOCOLS = ("knn", "linear")
READOUT = "pooled"


def bench(
    name: str,
    *,
    seeds: int = 3,
    out: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> tuple[dict[str, Any], Path | None]:
    """Measure a recipe beside its random encoder and raw pixels; store it unless it was changed.

    Each seed makes its own weights, order, views, and random encoder. A seed whose run is finished
    in ``out`` already, by the same recipe, is evaluated again but not trained again.

    Args:
        name: ``stem`` or ``stem:preset``.
        seeds: how many, from 0.
        out: where the runs go; ``runs/bench/NAME`` by default.
        overrides: fields to change; the result is then returned but not stored.
        say: told each seed's figures.

    Returns:
        The result as `unlabeled.catalog.result_files` describes it, and where it was stored.
    """
    stem, _, preset = name.partition(":")
    preset = preset or "small"
    module, recipe = load_module(f"{stem}:{preset}")
    folder = out or Path("runs") / "bench" / f"{stem}-{preset}"
    plans, found, seconds = [], [], []
    for seed in range(seeds):
        plan = make_plan(f"{stem}:{preset}", seed=seed, out=folder / str(seed), overrides=overrides)
        run, took = _trained(plan, overrides)
        scores = evaluate(
            run, protocols=PROTOCOLS, readouts=(READOUT,), random_seeds=1, seed=seed, name=stem
        )
        plans.append(plan)
        found.append(scores)
        seconds.append(round(took, 1))
        say(f"{name} seed {seed}: {_line(scores, stem)}, {took:.0f} s of training")
    result = {
        "stem": stem,
        "preset": preset,
        "fingerprint": fingerprint(recipe),
        "sources": catalog.source_hashes(_sources(module.__file__ or "", recipe)),
        "commit": commit() or "no git",
        "versions": {key: text for key, text in environment()["versions"].items() if text},
        "device": _device(plans[0].recipe),
        "data": recipe.data.name,
        "encoder": encoder_label(recipe),
        "epochs": plans[0].recipe.epochs,
        "seeds": list(range(seeds)),
        "seconds": seconds,
        "scores": {each: _branches(found, each, stem) for each in PROTOCOLS},
        "protocols": {each: _protocol(_row(found[0], each, stem)) for each in PROTOCOLS},
    }
    if overrides:
        return result, None
    path = RESULTS / f"{stem}.{preset}.json"
    catalog.write_result(path, result)
    return result, path


def encoder_label(recipe: Recipe) -> str:
    """Return a short name of the encoder: ``resnet50``, ``small_resnet 32-64-256``."""
    builder = recipe.encoder
    if not isinstance(builder, partial):
        return getattr(builder, "__name__", type(builder).__name__)
    options = {
        key: parameter.default
        for key, parameter in inspect.signature(builder.func).parameters.items()
    } | builder.keywords
    if "name" in options:
        return str(options["name"])
    widths = options.get("widths")
    label = builder.func.__name__
    return f"{label} {'-'.join(map(str, widths))}" if widths else label


def _trained(plan: Plan, overrides: Mapping[str, Any] | None) -> tuple[Run, float]:
    run = Run(plan.out)
    seed = plan.recipe.seed
    started = time.monotonic()
    if not (run.finished and run.info["fingerprint"] == fingerprint(plan.recipe)):
        run = pretrain(plan.name, seed=seed, out=plan.out, overrides=overrides, overwrite=False)
    status = run.status()
    return run, float(status.get("seconds", time.monotonic() - started))


def _row(scores: Scores, protocol: str, name: str) -> Row:
    for row in scores.rows:
        if row.name == name and row.protocol.partition("/")[0] == protocol:
            return row
    raise ValueError(f"{name} has no figure of {protocol}")


def _branches(found: list[Scores], protocol: str, stem: str) -> dict[str, list[float]]:
    branches = {"encoder": stem, "random": RANDOM, "raw": RAW}
    return {
        branch: [round(_row(scores, protocol, name).value, 4) for scores in found]
        for branch, name in branches.items()
    }


def _protocol(row: Row) -> dict[str, Any]:
    return {
        "id": row.protocol,
        "metric": row.metric,
        "unit": row.unit,
        "higher_is_better": True,
        "readout": row.readout,
        "train": row.train,
        "test": row.test,
        **row.details,
    }


def _line(scores: Scores, stem: str) -> str:
    parts = []
    for protocol in PROTOCOLS:
        values = [_row(scores, protocol, name).value for name in (stem, RANDOM, RAW)]
        own, random, raw = values
        parts.append(f"{protocol} {own:.2f} (random {random:.2f}, raw {raw:.2f})")
    return ", ".join(parts)


def _sources(file: str, recipe: Recipe) -> list[Path]:
    """Return the files that say what the recipe computes: the paper's, and its class's."""
    method = recipe.method.func if isinstance(recipe.method, partial) else recipe.method
    return sorted({Path(file).resolve(), Path(inspect.getfile(method)).resolve()})


def _device(recipe: Recipe) -> str:
    facts = environment()
    if facts["device"] != "cpu":
        return f"{facts['device']}, {recipe.precision}"
    cores = f"{facts['threads']} of {facts['cores']} cores"
    return f"{cores} of {facts['processor']}, {recipe.precision}"
