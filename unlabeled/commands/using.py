"""embed, export, doctor: an encoder at work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from unlabeled.commands.app import Json, app, consoles, print_json


@app.command(
    epilog="`unlabeled embed runs/simclr --data photos/ --out embeddings.parquet`",
)
def embed(
    model: Annotated[
        str, typer.Argument(help="A run, encoder.safetensors, timm/NAME or NAME=WEIGHTS.")
    ],
    out: Annotated[Path, typer.Option(help="x.npy, x.csv or x.parquet.")],
    data: Annotated[
        str | None, typer.Option(help="As in pretrain; default: the data of the run.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which split of the data.")] = "all",
    precision: Annotated[
        str, typer.Option(help="32-true, bf16-mixed, 16-mixed, or auto: bf16 where it is faster.")
    ] = "32-true",
    overwrite: Annotated[bool, typer.Option(help="Replace the file.")] = False,
    as_json: Json = False,
) -> None:
    """Turn every sample into a vector, with its path and label where there are some."""
    from unlabeled.artifacts import load
    from unlabeled.console import counted, show_log
    from unlabeled.evaluation import data_for
    from unlabeled.features import embed as compute
    from unlabeled.features import write_features
    from unlabeled.plan import resolve_precision

    console = consoles(as_json)
    show_log(console)
    if out.suffix not in (".npy", ".csv", ".parquet"):
        raise ValueError(f"{out}: the ending says the format, use .npy, .csv or .parquet")
    if out.exists() and not overwrite:
        raise ValueError(f"{out} exists: choose another --out, or --overwrite")
    source = data_for(model, data)
    encoder = load(model, data=source).encoder
    try:
        source.plain(encoder.spec).split(split)
    except ValueError as error:
        raise ValueError(f"{error}; choose one by --split") from error
    precision = resolve_precision(precision)
    with counted(console, "samples") as progress:
        features = compute(encoder, source, split=split, precision=precision, progress=progress)
    write_features(features, out)
    facts = {
        "out": str(out),
        "samples": len(features.x),
        "dim": features.x.shape[1],
        "precision": precision,
    }
    if as_json:
        print_json(facts)
    else:
        console.print(f"{facts['samples']:,} vectors of {facts['dim']} numbers: {out}")


@app.command(
    epilog="`unlabeled export runs/simclr --to onnx --out encoder.onnx`",
)
def export(
    model: Annotated[str, typer.Argument(help="A run or encoder.safetensors.")],
    to: Annotated[str, typer.Option(help="safetensors, timm, torchvision, onnx or pt2.")],
    out: Annotated[Path | None, typer.Option(help="The file to write.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace the file.")] = False,
    as_json: Json = False,
) -> None:
    """Write the encoder in another library's own format."""
    from typing import get_args

    from unlabeled.artifacts import export as write
    from unlabeled.console import show_log
    from unlabeled.formats import Format

    console = consoles(as_json)
    show_log(console)
    if to not in get_args(Format):
        raise ValueError(f"--to {to}: there are {', '.join(get_args(Format))}")
    # timm finds model.safetensors and its config.json in a folder of their own
    name = {"onnx": "encoder.onnx", "pt2": "encoder.pt2"}.get(to, "model.safetensors")
    folder = Path(model) if Path(model).is_dir() else Path(model).parent
    path = out if out is not None else folder / f"exported-{to}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    written = write(model, path, to=to, overwrite=overwrite)  # type: ignore[arg-type]
    if as_json:
        print_json({"out": str(written), "to": to})
    else:
        console.print(f"{written}")


@app.command(epilog="`unlabeled doctor --json`")
def doctor(as_json: Json = False) -> None:
    """Say what this machine has: versions, cores, bf16, GPU, data sets, optional packages."""
    from unlabeled.doctor import examine

    checks = examine()
    if as_json:
        print_json(checks)
        return
    console = Console()
    for check in checks:
        mark = "[green]ok  [/green]" if check["ok"] else "[yellow]note[/yellow]"
        text = escape(f"{check['what']}: {check['says']}")
        console.print(f"{mark} {text}", soft_wrap=True, highlight=False)
