"""evaluate, bench: what an encoder is worth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from unlabeled.commands.app import Json, app, consoles, pairs, print_json

Labeled = Annotated[
    str | None, typer.Option("--data", help="Labeled data; the run's own by default.")
]
Floors = Annotated[str, typer.Option("--floors", help="raw,random, one of them, or none.")]
Seed = Annotated[int, typer.Option("--seed", help="Of draws, splits and random weights.")]
ImageSize = Annotated[
    int | None,
    typer.Option("--image-size", help="Pixels, for models given by name; default: as trained."),
]


def _names(text: str | None) -> tuple[str, ...] | None:
    """The protocols of a comma-separated option; None without one."""
    return tuple(text.split(",")) if text else None


def _floors(text: str) -> tuple[str, ...]:
    return () if text == "none" else tuple(text.split(","))


def _teller(console: Console) -> Callable[[str], None]:
    return lambda text: console.print(f"  {text}", style="dim", highlight=False)


def _show(console: Console, found: Any) -> None:
    """The table and the sentences of `Scores` or `Compared`."""
    console.print(found.table())
    for sentence in found.sentences():
        console.print(f"  {sentence}", soft_wrap=True)


@app.command(
    epilog="`unlabeled evaluate runs/simclr`   "
    "`unlabeled evaluate timm/resnet18=weights.pt --data photos/ --json`",
)
def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="A run, encoder.safetensors, timm/NAME, torchvision/NAME or transformers/FOLDER, "
            "NAME=WEIGHTS for weights of a file, hub:timm/NAME to download."
        ),
    ],
    data: Labeled = None,
    protocols: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: knn, linear, fewlabel, finetune, episodes, retrieval, kmeans, "
            "calibration, corruptions, alignment, rotation, segmentation, detection and more: "
            "docs/evaluation.md lists them. By default the recipe's own, or the first three."
        ),
    ] = None,
    supervised: Annotated[
        str,
        typer.Option(help="Also train the same encoder with labels: none, few (1 %), or all."),
    ] = "none",
    floors: Floors = "raw,random",
    seed: Seed = 0,
    image_size: ImageSize = None,
    report: Annotated[Path | None, typer.Option(help="Where report.html goes.")] = None,
    as_json: Json = False,
) -> None:
    """Score an encoder beside its floors: raw pixels and the same encoder with random weights."""
    from unlabeled.console import show_log
    from unlabeled.evaluation import evaluate_model

    if supervised not in ("none", "few", "all"):
        raise ValueError(f"--supervised {supervised}: there are none, few and all")
    console = consoles(as_json)
    show_log(console)
    scores, page = evaluate_model(
        model,
        data=data,
        protocols=_names(protocols),
        floors=_floors(floors),
        seed=seed,
        image_size=image_size,
        supervised="few" if supervised == "few" else supervised == "all",
        report=report,
        say=_teller(console),
    )
    if as_json:
        print_json(scores.to_json())
    else:
        _show(console, scores)
        console.print(f"  report: {page}", soft_wrap=True)


@app.command(epilog="`unlabeled bench simclr --seeds 3`")
def bench(
    name: Annotated[str, typer.Argument(help="STEM, STEM:PRESET, or supervised.")],
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Not stored if given.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs with seeds 0, 1, ...")] = 3,
    out: Annotated[Path | None, typer.Option(help="Where the runs go.")] = None,
    as_json: Json = False,
) -> None:
    """Train and evaluate a recipe with several seeds and store the figures in the catalog.

    All recipes of a study are run in turn. `supervised` measures the board's ceiling: the same
    encoder trained with all labels.
    """
    from unlabeled.bench import bench as measure
    from unlabeled.bench import ceiling
    from unlabeled.console import show_log

    console = consoles(as_json)
    show_log(console)
    if name == "supervised":
        facts, place = ceiling(seeds=seeds, say=lambda text: console.print(text, soft_wrap=True))
        if as_json:
            print_json(facts)
        else:
            console.print(f"stored in {place}")
        return
    result, path = measure(
        name,
        seeds=seeds,
        out=out,
        overrides=pairs(changes or []),
        say=lambda text: console.print(text, highlight=False, soft_wrap=True),
    )
    if as_json:
        print_json(result)
    else:
        console.print(
            f"stored in {path}" if path is not None else "not stored: fields were changed"
        )


@app.command(
    epilog="`unlabeled compare runs/simclr runs/byol`   "
    "`unlabeled compare runs/bench/simclr-small timm/resnet18=weights.pt --data photos/ "
    "--protocols knn,linear,fewlabel --json`",
)
def compare(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="As for evaluate, or a folder of runs (seeds)."),
    ],
    data: Labeled = None,
    protocols: Annotated[str | None, typer.Option(help="Comma-separated, as for evaluate.")] = None,
    floors: Floors = "raw,random",
    seed: Seed = 0,
    image_size: ImageSize = None,
    as_json: Json = False,
) -> None:
    """Score several encoders alike, in one table, and say which differences are shown.

    Runs that differ in their seed alone are one column, with their mean and spread.
    """
    from unlabeled.compare import compare as run_it
    from unlabeled.console import show_log

    console = consoles(as_json)
    show_log(console)
    found = run_it(
        models,
        data=data,
        protocols=_names(protocols),
        floors=_floors(floors),
        seed=seed,
        image_size=image_size,
        say=_teller(console),
    )
    if as_json:
        print_json(found.to_json())
    else:
        _show(console, found)
