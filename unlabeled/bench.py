"""bench(): train and judge a recipe with several seeds, and store the figures in the catalog."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from unlabeled import catalog
from unlabeled.artifacts import Run, commit, environment, write_json
from unlabeled.catalog.board import CEILING
from unlabeled.catalog.result_files import RESULTS
from unlabeled.evaluation import evaluate
from unlabeled.evaluators.labelfree import METRICS as LABEL_FREE
from unlabeled.evaluators.scores import RANDOM, RAW, SUPERVISED, Row, Scores
from unlabeled.floors import Floors
from unlabeled.plan import Plan, make_plan
from unlabeled.pretraining import pretrain
from unlabeled.recipe import Recipe, Study, describe, fingerprint
from unlabeled.registry import load_module

PROTOCOLS = ("knn", "linear")
READOUT = "pooled"
OWN = "encoder"

Scores_ = dict[str, dict[str, list[float]]]


def bench(
    name: str,
    *,
    seeds: int = 3,
    out: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> tuple[dict[str, Any], Path | None]:
    """Measure a recipe, or all recipes of a study, and store the figures unless fields changed.

    Each seed makes its own weights, order, views, and random encoder; raw pixels are a floor too.
    Judged by the recipe's own evaluators where it names some, else by kNN and a linear probe. A
    seed whose run is finished in ``out`` already, by the same recipe, is evaluated again but not
    trained again. Floors are judged once for all recipes that share them (`unlabeled.floors`).

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
    module, chosen = load_module(f"{stem}:{preset}")
    study = chosen if isinstance(chosen, Study) else None
    recipes = dict(chosen.recipes) if isinstance(chosen, Study) else {OWN: chosen}
    first = next(iter(recipes.values()))
    judges = study.evaluators if study is not None else first.evaluate or PROTOCOLS
    folder = out or Path("runs") / "bench" / f"{stem}-{preset}"
    kept = Floors((out or folder.parent) / "floors")
    scores: Scores_ = {}
    protocols: dict[str, dict[str, Any]] = {}
    seconds = []
    for seed in range(seeds):
        passed = 0.0
        for branch, recipe in recipes.items():
            whole = f"{stem}:{preset}" if study is None else f"{stem}:{preset}/{branch}"
            place = folder / str(seed) if study is None else folder / branch / str(seed)
            plan = make_plan(whole, seed=seed, out=place, overrides=overrides)
            run, took = _trained(plan, overrides)
            passed += took
            # the recipes of a study share their floors with the first unless data or encoder differ
            floors = ("raw", "random") if _unlike(recipe, first) or recipe is first else ()
            known = {floor: kept.read(floor, recipe, judges, seed) for floor in floors}
            found = evaluate(
                run,
                protocols=[judge for judge in judges if judge not in LABEL_FREE],
                floors=[floor for floor, rows in known.items() if not rows],
                readouts=(READOUT,),
                random_seeds=1,
                seed=seed,
                name=stem,
            )
            for floor, rows in known.items():
                if rows:
                    found = replace(found, rows=(*found.rows, *rows))
                else:
                    kept.write(floor, recipe, judges, seed, found.rows)
            _collect(scores, protocols, found, stem, branch, recipe, first, judges)
            if study is not None:
                _add(scores, "seconds", branch, took)
                protocols["seconds"] = dict(SECONDS)
            say(f"{whole} seed {seed}: {_line(found, stem)}, {took:.0f} s of training")
        seconds.append(round(passed, 1))
    result: dict[str, Any] = {
        "stem": stem,
        "preset": preset,
        "fingerprint": fingerprint(chosen),
        "sources": catalog.source_hashes(_sources(module.__file__ or "", recipes.values())),
        "commit": commit() or "no git",
        "versions": {key: text for key, text in environment()["versions"].items() if text},
        "device": _device(plan.recipe),
        "data": first.data.name,
        "encoder": encoder_label(first),
        "epochs": plan.recipe.epochs,
        "seeds": list(range(seeds)),
        "seconds": seconds,
        "scores": scores,
        "protocols": protocols,
    }
    if study is not None:
        result["report"] = study.report(scores)
        for sentence in result["report"]:
            say(sentence)
    if overrides:
        return result, None
    path = RESULTS / f"{stem}.{preset}.json"
    catalog.write_result(path, result)
    return result, path


def ceiling(
    *, like: str = "simclr:small", seeds: int = 3, say: Callable[[str], None] = print
) -> tuple[dict[str, Any], Path]:
    """Measure what labels give the encoder of the board, trained end to end from scratch.

    Args:
        like: the recipe whose data and encoder the board's rows share.
        seeds: how many, from 0.
        say: told each seed's figures.
    """
    recipe = load_module(like)[1]
    if not isinstance(recipe, Recipe):
        raise ValueError(f"{like} is a study: name the recipe whose encoder the board compares")
    recipe = recipe.fitted()
    spec = recipe.views.spec
    scores: dict[str, list[float]] = {}
    for seed in range(seeds):
        torch.manual_seed(seed)
        found = evaluate(
            recipe.encoder(spec),
            data=recipe.data,
            builder=recipe.encoder,
            protocols=PROTOCOLS,
            floors=(),
            readouts=(READOUT,),
            supervised=True,
            seed=seed,
            name=OWN,
        )
        for row in found.rows:
            protocol = row.protocol.partition("/")[0]
            if row.name == SUPERVISED and protocol != "labelfree":
                scores.setdefault(protocol, []).append(round(row.value, 4))
        say(f"supervised seed {seed}: {_line(found, OWN)}")
    result = {
        "data": recipe.data.name,
        "encoder": encoder_label(recipe),
        "commit": commit() or "no git",
        "device": _device(recipe),
        "seeds": list(range(seeds)),
        "scores": scores,
    }
    path = RESULTS / CEILING
    path.parent.mkdir(exist_ok=True)
    write_json(path, result)
    return result, path


SECONDS = {"id": "seconds", "metric": "of training", "unit": "s", "higher_is_better": False}


def _unlike(recipe: Recipe, first: Recipe) -> bool:
    """Whether two recipes have different floors."""
    return describe(recipe.encoder) != describe(first.encoder) or recipe.data != first.data


def _add(scores: Scores_, score: str, branch: str, value: float) -> None:
    scores.setdefault(score, {}).setdefault(branch, []).append(round(value, 4))


def _collect(
    scores: Scores_,
    protocols: dict[str, dict[str, Any]],
    found: Scores,
    stem: str,
    branch: str,
    recipe: Recipe,
    first: Recipe,
    judges: Sequence[Any],
) -> None:
    """Sort one evaluation's rows into scores: an entry a protocol, a branch an encoder or floor.

    A protocol with several metrics has an entry each: the first under its own name.
    """
    suffix = f" ({branch})" if _unlike(recipe, first) else ""
    names = {stem: branch, RANDOM: f"random{suffix}", RAW: f"raw{suffix}"}
    taken: dict[str, str] = {}
    for row in found.rows:
        protocol = row.protocol.partition("/")[0]
        if protocol == "labelfree":
            if row.metric not in judges:
                continue
            score = row.metric
        else:
            score = protocol
            if taken.setdefault(protocol, row.metric) != row.metric:
                score = f"{protocol} {row.metric}"
        _add(scores, score, names[row.name], row.value)
        protocols.setdefault(score, _protocol(row))


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


def _protocol(row: Row) -> dict[str, Any]:
    return {
        "id": row.protocol,
        "metric": row.metric,
        "unit": row.unit,
        "higher_is_better": row.higher_is_better,
        "readout": row.readout,
        "train": row.train,
        "test": row.test,
        **row.details,
    }


def _line(found: Scores, stem: str) -> str:
    parts: dict[str, list[str]] = {}
    for row in found.rows:
        if not row.protocol.startswith("labelfree"):
            label = "" if row.name == stem else f"{row.name} "
            parts.setdefault(f"{row.protocol.partition('/')[0]} {row.metric}", []).append(
                f"{label}{row.value:.2f}"
            )
    return "; ".join(f"{name} {', '.join(values)}" for name, values in parts.items())


def _sources(file: str, recipes: Iterable[Recipe]) -> list[Path]:
    """Return the files that say what the recipes compute: the paper's, and their classes'."""
    methods = [
        recipe.method.func if isinstance(recipe.method, partial) else recipe.method
        for recipe in recipes
    ]
    files = {Path(inspect.getfile(method)).resolve() for method in methods}
    return sorted({Path(file).resolve(), *files})


def _device(recipe: Recipe) -> str:
    facts = environment()
    if facts["device"] != "cpu":
        return f"{facts['device']}, {recipe.precision}"
    cores = f"{facts['threads']} of {facts['cores']} cores"
    return f"{cores} of {facts['processor']}, {recipe.precision}"
