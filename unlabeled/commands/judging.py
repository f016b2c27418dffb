"""evaluate, bench: what an encoder is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unlabeled.commands.app import Json, app, consoles, pairs, print_json


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
    data: Annotated[
        str | None, typer.Option(help="Labeled data; the run's own by default.")
    ] = None,
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
    floors: Annotated[str, typer.Option(help="raw,random, one of them, or none.")] = "raw,random",
    seed: Annotated[int, typer.Option(help="Of draws, splits and random weights.")] = 0,
    image_size: Annotated[
        int | None, typer.Option(help="Pixels, for models given by name; default: as trained.")
    ] = None,
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
        protocols=tuple(protocols.split(",")) if protocols else None,
        floors=() if floors == "none" else tuple(floors.split(",")),
        seed=seed,
        image_size=image_size,
        supervised="few" if supervised == "few" else supervised == "all",
        report=report,
        say=lambda text: console.print(f"  {text}", style="dim", highlight=False),
    )
    if as_json:
        print_json(scores.to_json())
    else:
        console.print(scores.table())
        for sentence in scores.sentences():
            console.print(f"  {sentence}", soft_wrap=True)
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
    data: Annotated[
        str | None, typer.Option(help="Labeled data; the runs' own by default.")
    ] = None,
    protocols: Annotated[str | None, typer.Option(help="Comma-separated, as for evaluate.")] = None,
    floors: Annotated[str, typer.Option(help="raw,random, one of them, or none.")] = "raw,random",
    seed: Annotated[int, typer.Option(help="Of draws, splits and random weights.")] = 0,
    image_size: Annotated[
        int | None, typer.Option(help="Pixels, for models given by name; default: as trained.")
    ] = None,
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
        protocols=tuple(protocols.split(",")) if protocols else None,
        floors=() if floors == "none" else tuple(floors.split(",")),
        seed=seed,
        image_size=image_size,
        say=lambda text: console.print(f"  {text}", style="dim", highlight=False),
    )
    if as_json:
        print_json(found.to_json())
    else:
        console.print(found.table())
        for sentence in found.sentences():
            console.print(f"  {sentence}", soft_wrap=True)
