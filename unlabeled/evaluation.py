"""evaluate(): an encoder under several protocols, beside its floors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from unlabeled.artifacts import Model, Run, load, write_json
from unlabeled.data import open_data
from unlabeled.data.source import DataSource
from unlabeled.encoders.encoder import Encoder
from unlabeled.evaluators.evaluator import (
    FeatureEvaluator,
    Figure,
    Illustrator,
    TaskEvaluator,
)
from unlabeled.evaluators.named import resolved
from unlabeled.evaluators.scores import Scores
from unlabeled.evaluators.supervised import Supervised
from unlabeled.features import READOUTS, Progress
from unlabeled.ops.knn import bfloat16_is_fast
from unlabeled.session import Say, Session

PROTOCOLS = ("knn", "linear", "fewlabel")
FLOORS = ("raw", "random")
WIDEST_GRID = 4096


def evaluate(
    model: str | Path | Run | Model | Encoder,
    *,
    data: str | DataSource | None = None,
    protocols: Sequence[str | FeatureEvaluator | TaskEvaluator] | None = None,
    floors: Sequence[str] = FLOORS,
    supervised: Supervised | bool | Literal["few"] = False,
    readouts: Sequence[str] | None = None,
    seed: int = 0,
    random_seeds: int = 3,
    builder: Callable[[Any], Encoder] | None = None,
    name: str | None = None,
    batch_size: int = 512,
    image_size: int | None = None,
    device: str | torch.device | None = None,
    precision: str | None = None,
    cache: Path | None = None,
    say: Say | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Score an encoder and its floors with the same read-outs, on the same samples.

    The floors: raw pixels (the prepared input, at 32 px where it is larger), and the same
    architecture with fresh weights, in eval mode with its batch norms at their first statistics
    (0, 1), over ``random_seeds`` seeds. Everything that is chosen is chosen inside train; test is
    read once. Without labels only label-free scores are given, where the data has tags the probe
    of each (`Tags`), and where it has factors the scores of evaluators that ask for them.

    Args:
        model: a run, its folder, an encoder file, a model's name, or an encoder.
        data: a source or its name; by default the one that the run was trained on.
        protocols: "knn", "linear", "fewlabel", another name of `unlabeled.evaluators.named`, or
            evaluators with settings; by default those of
            the run's own recipe where it names some, else these three. The named kNN has k = 20,
            or the size of train where that is smaller.
        floors: "raw", "random", both or none.
        supervised: also train the same architecture with all labels and, where "fewlabel" is
            asked, with those of each draw; "few" leaves the run with all labels out.
        readouts: "pooled", "grid2"; by default both where the encoder has a grid and four times
            its width is at most 4,096.
        seed: of draws, splits, random weights (seed, seed + 1, ...) and the supervised run.
        random_seeds: random encoders.
        builder: makes the same architecture afresh; models that are loaded bring theirs.
        name: for the table; by default the model's own.
        batch_size: samples of a forward pass.
        image_size: side in pixels for a model given by name: see `unlabeled.artifacts.load`.
        device: where to compute; by default a GPU where there is one.
        precision: of forward passes; by default "bf16-mixed" where that is fast.
        cache: a folder that keeps the features.
        say: told what is being done, a line at a time.
        progress: called with samples done and samples in all of each forward pass.

    Raises:
        ValueError: an unknown protocol, floor or read-out, labels that cannot be scored, features
            that are not finite, or a floor without a builder. One line with the remedy.
    """
    source = data_for(model, data)
    loaded = load(model, data=source, image_size=image_size)
    source = source.fit(loaded.encoder.spec)
    make = builder or loaded.builder
    found = replace(loaded, name=name or loaded.name, builder=make)
    if protocols is None:
        protocols = own_protocols(model)
    protocols = resolved(protocols)
    _check(floors, supervised, make)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    session = Session(
        model=found,
        data=source,
        readouts=_readouts(found.encoder, readouts),
        seed=seed,
        random_seeds=random_seeds,
        batch_size=batch_size,
        device=place,
        precision=precision or ("bf16-mixed" if bfloat16_is_fast(place) else "32-true"),
        cache=cache,
        say=say or _silent,
        progress=progress,
    )
    training = supervised if isinstance(supervised, Supervised) else Supervised()
    if not isinstance(supervised, Supervised):
        training = replace(training, precision=session.precision)
    return session.run(
        protocols, floors, training if supervised else None, all_labels=supervised != "few"
    )


def evaluate_model(
    model: str,
    *,
    data: str | None,
    protocols: Sequence[str] | None = None,
    floors: Sequence[str] = FLOORS,
    supervised: bool | Literal["few"] = False,
    seed: int = 0,
    image_size: int | None = None,
    report: Path | None = None,
    say: Say | None = None,
) -> tuple[Scores, Path]:
    """Evaluate, then write scores.json and report.html; return the scores and the page's path.

    Both go into the run's folder, or beside ``report``, or into the working folder.
    """
    from unlabeled.report.content import collect
    from unlabeled.report.page import write_report

    source = data_for(model, data)
    loaded = load(model, data=source, image_size=image_size)
    source = source.fit(loaded.encoder.spec)
    run = Run(model) if Run(model).started else None
    judges = resolved(own_protocols(run) if protocols is None else protocols)
    scores = evaluate(
        loaded,
        data=source,
        protocols=judges,
        floors=floors,
        supervised=supervised,
        seed=seed,
        say=say,
    )
    folder = run.path if run is not None else Path()
    page = report or folder / "report.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_json(page.with_name("scores.json"), scores.to_json())
    figures = _figures(judges, loaded, source)
    content = collect(model=loaded, data=source, scores=scores.to_json(), run=run, figures=figures)
    return scores, write_report(page, content)


# Arguments ---------------------------------------------------------------------------------------


def data_for(model: Any, data: str | DataSource | None) -> DataSource:
    """Return the data that was named, by default what the model's run was trained on.

    Raises:
        ValueError: no data was named and the model is no run.
    """
    if isinstance(data, DataSource):
        return data
    if data is not None:
        return open_data(data)
    if isinstance(model, Run):
        return model.recipe.data
    if isinstance(model, str | Path) and Run(model).started:
        return Run(model).recipe.data
    raise ValueError(f"{model} is no run folder, so say on which data to judge it (--data)")


def own_protocols(model: Any) -> Sequence[Any]:
    """The evaluators of a run's recipe where it names some, else the usual three."""
    run = Run(model) if isinstance(model, str | Path) else model
    if isinstance(run, Run) and run.started and run.recipe.evaluate:
        return run.recipe.evaluate
    return PROTOCOLS


def _figures(judges: Sequence[Any], model: Model, data: DataSource) -> list[Figure]:
    """What the evaluators show of the model, for the report."""
    found: list[Figure] = []
    with torch.no_grad():
        for judge in judges:
            if isinstance(judge, Illustrator):
                found += judge.figures(model.predictor(judge.needs), data)
    return found


def _check(floors: Sequence[str], supervised: Supervised | bool | str, builder: Any) -> None:
    unknown = [floor for floor in floors if floor not in FLOORS]
    if unknown:
        raise ValueError(f"no floor {unknown[0]!r}: use {' or '.join(FLOORS)}")
    if builder is None and ("random" in floors or supervised):
        raise ValueError(
            "random weights and supervised training need the architecture: pass builder=..., "
            "or floors=('raw',) and supervised=False"
        )


def _readouts(encoder: Encoder, readouts: Sequence[str] | None) -> tuple[str, ...]:
    if readouts is not None:
        return tuple(readouts)
    grid = type(encoder).maps is not Encoder.maps and 4 * encoder.dim <= WIDEST_GRID
    return READOUTS if grid else READOUTS[:1]


def _silent(text: str) -> None:
    """Say nothing."""
