"""pretrain: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unlabeled.commands.app import Json, app, consoles, pairs, print_json


@app.command(
    epilog="`unlabeled pretrain simclr --data photos/`   "
    "`unlabeled pretrain byol:paper --data photos/ --encoder timm/resnet50 --batch-size 256 "
    "--out runs/byol method.momentum=0.99`",
)
def pretrain(
    recipe: Annotated[
        str,
        typer.Argument(
            help="STEM, STEM:PRESET (small, paper), a study's PRESET/NAME, or file.py:fn."
        ),
    ],
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Fields to override.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="As for evaluate; the recipe's own data by default.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="timm/NAME, torchvision/NAME or small.")
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the data.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Samples a step, over all devices; lr follows.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="32-true, bf16-mixed, 16-mixed, or auto.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and views.")] = None,
    init: Annotated[
        str | None, typer.Option(help="Start from weights: a file, or hub:timm/NAME (network).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder; continued if unfinished.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace what a run in --out holds.")] = False,
    devices: Annotated[int, typer.Option(help="Devices, or processes on CPU.")] = 1,
    grad_cache: Annotated[
        int | None,
        typer.Option(
            metavar="CHUNK", help="Samples the encoder runs at once: large batches, small memory."
        ),
    ] = None,
    compile_it: Annotated[
        bool, typer.Option("--compile", help="torch.compile the encoder; worth it on long runs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train an encoder on data without labels; the same command continues a stopped run."""
    from unlabeled.console import ConsoleReporter, show_log
    from unlabeled.pretraining import pretrain as run_it

    console = consoles(as_json)
    show_log(console)
    run = run_it(
        recipe,
        data=data,
        encoder=encoder,
        epochs=epochs,
        batch_size=batch_size,
        precision=precision,
        seed=seed,
        init=init,
        out=out,
        overwrite=overwrite,
        grad_cache=grad_cache,
        compile=compile_it,
        overrides=pairs(changes or []),
        reporter=ConsoleReporter(console),
        devices=devices,
    )
    if as_json:
        print_json({"run": str(run.path), **run.info})
    else:
        console.print(
            f"[green]finished[/green]: {run.path / 'encoder.safetensors'}\n"
            f"  does it help?   unlabeled evaluate {run.path}\n"
            f"  use it:         unlabeled embed {run.path} --data FOLDER --out embeddings.npy"
        )
