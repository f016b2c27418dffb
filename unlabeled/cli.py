"""The command line: each command is a thin call, and loads torch only when it needs it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

app = typer.Typer(
    name="unlabeled",
    help="Self-supervised learning: from data without labels to an encoder that people can use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    epilog="Start with `unlabeled pretrain simclr --data photos/`. "
    "UNLABELED_DEBUG=1 shows the trace of an error.",
)
data_app = typer.Typer(
    help="Data sets: list, get, info, pack, verify, shard, index.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.add_typer(data_app, name="data")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value and nothing else.")]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        help="A folder of images, a .txt/.csv list, .npy/.npz, tar shards "
        "('train-{000..099}.tar', a folder or URL of them), hf:PATH or hf:NAME, fashion-mnist, "
        "digits, torchvision/NAME.",
    ),
]


def _out(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def _consoles(as_json: bool) -> Console:
    """With --json the console is silent: standard output carries the JSON alone."""
    return Console(stderr=as_json, quiet=as_json)


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


# The list ----------------------------------------------------------------------------------------


@app.command(
    name="list",
    epilog="`unlabeled list --modality speech`   `unlabeled list --status measured --json`",
)
def list_rows(
    family: Annotated[str | None, typer.Option(help="Only this family.")] = None,
    modality: Annotated[str | None, typer.Option(help="Only this modality.")] = None,
    status: Annotated[str | None, typer.Option(help="Only this status.")] = None,
    as_json: Json = False,
) -> None:
    """Show the 127 papers: which can be run, what was published, what we measured."""
    from unlabeled import catalog

    wanted = {"family": family, "modality": modality, "status": status}
    rows = [
        row
        for row in catalog.rows()
        if all(value is None or row[key] == value for key, value in wanted.items())
    ]
    if as_json:
        _out(rows)
        return
    console = Console()
    table = Table(header_style="bold", pad_edge=False, box=None)
    # a row is a line: a narrow terminal cuts the long columns short, --json has all of it
    names = ["id", "stem", "name", "modality", "family", "status", "published", "measured"]
    if console.width < 120:
        names.remove("name")
    widths = {"id": 3, "modality": 8, "family": 8, "status": 11, "published": 12, "measured": 12}
    for name in names:
        table.add_column(
            name, no_wrap=True, overflow="ellipsis", min_width=widths.get(name), max_width=30
        )
    for row in rows:
        cells = {**row, "published": _published(row), "measured": _measured(row)}
        table.add_row(*(str(cells[name]) for name in names))
    console.print(table)
    built = sum(row["status"] != "not yet" for row in rows)
    console.print(
        f"{built} of {len(rows)} can be run; conditions of each figure: unlabeled show STEM"
    )


def _published(row: dict[str, Any]) -> str:
    if not row["published"]:
        return ""
    figure = row["published"][0]
    return f"{figure['value']:g} {figure['unit']} {figure['metric']}"


def _measured(row: dict[str, Any]) -> str:
    if not row["measured"]:
        return ""
    score = row["measured"][0]
    if score["recipe"] != "encoder":
        recipes = {each["recipe"] for each in row["measured"]}
        return f"study of {len(recipes)} recipes"
    return (
        f"{score['evaluator']} {score['value']:.1f} {score['unit']} "
        f"(random {score['floors'].get('random', float('nan')):.1f})"
    )


@app.command(epilog="`unlabeled taxonomy`   `unlabeled taxonomy --by loss --json`")
def taxonomy(
    by: Annotated[
        str, typer.Option(help="Group by similarity, encoder, head or loss.")
    ] = "similarity",
    as_json: Json = False,
) -> None:
    """Sort the contrastive methods by what they call similar, their encoders, heads or losses."""
    from dataclasses import asdict

    from unlabeled import catalog

    if by not in catalog.SCHEME:
        raise ValueError(f"--by {by}: there are {', '.join(catalog.SCHEME)}")
    rows = [
        {"stem": stem, "status": catalog.status(stem), **asdict(card.taxonomy)}
        for stem, card in catalog.cards().items()
        if card.taxonomy is not None
    ]
    rows.sort(key=lambda row: catalog.SCHEME[by].index(row[by]))
    if as_json:
        _out(rows)
        return
    table = Table(header_style="bold", box=None)
    names = [by, *(part for part in catalog.SCHEME if part != by), "stem", "status"]
    for column in names:
        table.add_column(column)
    for row in rows:
        table.add_row(*(str(row[column]) for column in names))
    Console().print(table)


@app.command(epilog="`unlabeled show simclr`   `unlabeled show moco_v2:paper --json`")
def show(
    name: Annotated[str, typer.Argument(help="A stem, or stem:preset.")], as_json: Json = False
) -> None:
    """Show a paper's card and its recipes: every field that `key=value` can change."""
    from dataclasses import asdict

    from unlabeled import catalog

    stem, _, preset = name.partition(":")
    card = catalog.card(stem)
    facts: dict[str, Any] = {**asdict(card), "status": catalog.status(stem)}
    recipes: dict[str, Any] = {}
    if catalog.module_path(stem) is not None:
        from unlabeled.recipe import describe, field_lines, fingerprint
        from unlabeled.registry import load_module

        for each in [preset] if preset else ["small", "paper"]:
            recipe = load_module(f"{stem}:{each}")[1]
            recipes[each] = {"fingerprint": fingerprint(recipe), "recipe": describe(recipe)}
    if as_json:
        _out({**facts, "recipes": recipes})
        return
    console = Console()
    console.print(f"[bold]{card.name}[/bold]: {card.title}", soft_wrap=True)
    console.print(f"{card.venue}  {card.url}\n{card.summary}\n", soft_wrap=True)
    for figure in card.published:
        where = ", ".join(str(part) for part in (figure.data, figure.encoder) if part)
        console.print(
            f"  published: {figure.metric} {figure.value} {figure.unit} "
            f"({where}; {figure.protocol}; {figure.source})",
            soft_wrap=True,
        )
    for deviation in card.deviation:
        console.print(f"  deviation: {deviation.what} - {deviation.why}", soft_wrap=True)
    console.print(f"  status: {facts['status']}")
    for each, result in catalog.results(stem).items():
        if "encoder" not in result.scores[result.main]:
            table = catalog.study_table(result)
            console.print(f"\n{stem}:{each}\n{table}", soft_wrap=True, markup=False)
    for each, recipe_facts in recipes.items():
        console.print(f"\n[bold]{stem}:{each}[/bold] ({recipe_facts['fingerprint']})")
        for line in field_lines(recipe_facts["recipe"]["options"]):
            console.print(line, soft_wrap=True, markup=False, highlight=False)


# The main job ------------------------------------------------------------------------------------


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

    console = _consoles(as_json)
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
        overrides=_pairs(changes or []),
        reporter=ConsoleReporter(console),
        devices=devices,
    )
    if as_json:
        _out({"run": str(run.path), **run.info})
    else:
        console.print(
            f"[green]finished[/green]: {run.path / 'encoder.safetensors'}\n"
            f"  does it help?   unlabeled evaluate {run.path}\n"
            f"  use it:         unlabeled embed {run.path} --data FOLDER --out embeddings.npy"
        )


def _pairs(changes: list[str]) -> dict[str, str]:
    pairs = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise ValueError(f"{change!r} is no key=value pair, such as method.temperature=0.2")
        pairs[key] = value
    return pairs


@app.command(
    epilog="`unlabeled evaluate runs/simclr`   "
    "`unlabeled evaluate timm/resnet18=weights.pt --data photos/ --json`",
)
def evaluate(
    model: Annotated[
        str, typer.Argument(help="A run, encoder.safetensors, timm/NAME or NAME=WEIGHTS.")
    ],
    data: Annotated[
        str | None, typer.Option(help="Labeled data; the run's own by default.")
    ] = None,
    protocols: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: knn, linear, fewlabel, retrieval, clustering, svm, layers; of "
            "annotated images segmentation, detection, correspondence; of pairs flow, of clips "
            "propagation. By default the recipe's own, or the first three."
        ),
    ] = None,
    supervised: Annotated[
        str,
        typer.Option(help="Also train the same encoder with labels: none, few (1 %), or all."),
    ] = "none",
    report: Annotated[Path | None, typer.Option(help="Where report.html goes.")] = None,
    as_json: Json = False,
) -> None:
    """Score an encoder beside its floors: raw pixels and the same encoder with random weights."""
    from unlabeled.console import show_log
    from unlabeled.evaluation import evaluate_model

    if supervised not in ("none", "few", "all"):
        raise ValueError(f"--supervised {supervised}: there are none, few and all")
    console = _consoles(as_json)
    show_log(console)
    scores, page = evaluate_model(
        model,
        data=data,
        protocols=tuple(protocols.split(",")) if protocols else None,
        supervised="few" if supervised == "few" else supervised == "all",
        report=report,
        say=lambda text: console.print(f"  {text}", style="dim", highlight=False),
    )
    if as_json:
        _out(scores.to_json())
    else:
        console.print(scores.table())
        for sentence in scores.sentences():
            console.print(f"  {sentence}", soft_wrap=True)
        console.print(f"  report: {page}", soft_wrap=True)


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

    console = _consoles(as_json)
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
        _out(facts)
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

    console = _consoles(as_json)
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
        _out({"out": str(written), "to": to})
    else:
        console.print(f"{written}")


# Data --------------------------------------------------------------------------------------------


@data_app.command("list", epilog="`unlabeled data list --json`")
def data_list(as_json: Json = False) -> None:
    """Show the data sets that have a name, and where they were found."""
    from unlabeled.data import known

    rows = [each._asdict() for each in known()]
    if as_json:
        _out(rows)
        return
    table = Table(header_style="bold", box=None)
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console().print(table)


@data_app.command("get", epilog="`unlabeled data get fashion-mnist`")
def data_get(
    name: Annotated[str, typer.Argument(help="A name of `unlabeled data list`.")],
    as_json: Json = False,
) -> None:
    """Fetch a data set into the cache folder; the only command here that uses the network."""
    from unlabeled.console import show_log
    from unlabeled.data import get

    console = _consoles(as_json)
    show_log(console)
    place = get(name)
    if as_json:
        _out({"name": name, "place": str(place)})
    else:
        console.print(f"{name}: {place}")


@data_app.command("shard", epilog="`unlabeled data shard photos/ --out shards/ --shard-size 5000`")
def data_shard(
    data: Annotated[str, typer.Argument(help="A folder of images, or a list of paths.")],
    out: Annotated[Path, typer.Option(help="The folder of the shards; continued if unfinished.")],
    shard_size: Annotated[int, typer.Option(help="Images a shard; aim at 100 MB to 1 GB.")] = 2000,
    as_json: Json = False,
) -> None:
    """Pack image files into tar shards (WebDataset) in random order, with index.json."""
    from unlabeled.console import show_log
    from unlabeled.data import open_data
    from unlabeled.data.write_shards import write_shards

    console = _consoles(as_json)
    show_log(console)
    listing = write_shards(
        open_data(data),
        out,
        shard_size=shard_size,
        say=lambda text: console.print(text, highlight=False, soft_wrap=True),
    )
    _shards_done(listing, out, console, as_json)


@data_app.command(
    "index",
    epilog="`unlabeled data index shards/`   `unlabeled data index 'train-{000..099}.tar'`",
)
def data_index(
    shards: Annotated[str, typer.Argument(help="A folder, a pattern or a list of .tar files.")],
    out: Annotated[
        Path | None, typer.Option(help="By default index.json beside the shards.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write index.json, from which shards on a server know their sizes and classes."""
    from unlabeled.console import show_log
    from unlabeled.data.shardindex import write_index

    console = _consoles(as_json)
    show_log(console)
    path, listing = write_index(shards, out=None if out is None else str(out))
    _shards_done(listing, path, console, as_json)


def _shards_done(listing: Any, place: Path, console: Console, as_json: bool) -> None:
    samples = sum(shard.samples for shard in listing.shards)
    classes = None if listing.classes is None else len(listing.classes)
    if as_json:
        _out({
            "out": str(place), "shards": len(listing.shards), "samples": samples,
            "classes": classes,
        })  # fmt: skip
    else:
        labels = "no labels" if classes is None else f"{classes:,} classes"
        console.print(
            f"{place}: {len(listing.shards):,} shards, {samples:,} images, {labels}",
            highlight=False,
            soft_wrap=True,
        )


@data_app.command(
    "info",
    epilog="`unlabeled data info photos/`   `unlabeled data info 'shards/train-{000..099}.tar'`   "
    "`unlabeled data info hf:saved_set/`",
)
def data_info(
    data: Annotated[str, typer.Argument(help="As --data elsewhere.")], as_json: Json = False
) -> None:
    """Say what the library sees in some data: samples, channels, size, classes."""
    from dataclasses import asdict

    from unlabeled.console import show_log
    from unlabeled.data import open_data

    console = _consoles(as_json)
    show_log(console)
    source = open_data(data)
    facts: dict[str, Any] = {
        "name": source.name,
        "train": source.size("train"),
        "test": _test_size(source),
        "classes": list(source.classes) if source.classes else None,
        **asdict(source.spec()),
    }
    if as_json:
        _out(facts)
        return
    for key, value in facts.items():
        many = isinstance(value, list | tuple) and len(value) > 50
        text = f"{len(value)}: {', '.join(map(str, value[:20]))} ..." if many else value
        console.print(f"{key:>9}  {text}", soft_wrap=True, highlight=False)


@data_app.command("pack", epilog="`unlabeled data pack photos/ --size 256 --out photos-256`")
def data_pack(
    folder: Annotated[str, typer.Argument(help="A folder of images, or a .txt/.csv list.")],
    out: Annotated[Path, typer.Option(help="The pack, a folder; continued if unfinished.")],
    size: Annotated[int, typer.Option(help="Shorter side in pixels; never enlarged.")] = 256,
    channels: Annotated[int | None, typer.Option(help="1, 3, ...; found in the files.")] = None,
    eight_bit: Annotated[bool, typer.Option(help="Round 16-bit and float images.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace the pack in --out.")] = False,
    as_json: Json = False,
) -> None:
    """Decode images once into a file that is read without decoding; use it as --data."""
    from unlabeled.console import counted, show_log
    from unlabeled.data import open_data
    from unlabeled.data.folder import ImageFolder
    from unlabeled.data.packed import open_pack
    from unlabeled.data.packing import pack
    from unlabeled.data.paths import PathList

    console = _consoles(as_json)
    show_log(console)
    source = open_data(folder, channels=channels)
    if not isinstance(source, ImageFolder | PathList):
        raise ValueError(f"{folder} lies in memory already: pack a folder or a list of files")
    with counted(console, "files") as progress:
        pack(source, out, size=size, eight_bit=eight_bit, overwrite=overwrite, progress=progress)
    packed = open_pack(str(out))
    facts = {
        "out": str(out),
        "images": len(packed.rows),
        "bytes": len(packed.pixels),
        "unreadable": packed.facts["unreadable"],
        "splits": {name: len(samples) for name, samples in packed.splits.items()},
        "classes": packed.facts["classes"],
    }
    if as_json:
        _out(facts)
    else:
        console.print(
            f"{facts['images']:,} images, {len(packed.pixels) / 1e9:,.2f} GB, "
            f"{len(packed.facts['unreadable'])} files left out: {out}",
            soft_wrap=True,
        )


@data_app.command("verify", epilog="`unlabeled data verify photos-256`")
def data_verify(
    pack: Annotated[Path, typer.Argument(help="What `unlabeled data pack` made.")],
    as_json: Json = False,
) -> None:
    """Read every byte of a pack; name the images that are not what was packed."""
    from unlabeled.console import counted
    from unlabeled.data.packed import verify

    console = _consoles(as_json)
    with counted(console, "images") as progress:
        facts = verify(str(pack), progress=progress)
    damaged = facts["damaged"]
    assert isinstance(damaged, list)
    if as_json:
        _out(facts)
    elif not damaged:
        console.print(f"{facts['images']:,} images, {facts['bytes']:,} bytes: all as packed")
    if damaged:
        raise ValueError(
            f"{pack}: {len(damaged)} of {facts['images']:,} images are damaged: "
            f"{', '.join(damaged[:20])}{' ...' if len(damaged) > 20 else ''}: pack again with "
            "--overwrite"
        )


def _test_size(source: Any) -> int | None:
    try:
        return int(source.size("test"))
    except ValueError:  # data without labels, or too little of it, has no test split
        return None


# Measuring ---------------------------------------------------------------------------------------


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

    console = _consoles(as_json)
    show_log(console)
    if name == "supervised":
        facts, place = ceiling(seeds=seeds, say=lambda text: console.print(text, soft_wrap=True))
        if as_json:
            _out(facts)
        else:
            console.print(f"stored in {place}")
        return
    result, path = measure(
        name,
        seeds=seeds,
        out=out,
        overrides=_pairs(changes or []),
        say=lambda text: console.print(text, highlight=False, soft_wrap=True),
    )
    if as_json:
        _out(result)
    else:
        console.print(
            f"stored in {path}" if path is not None else "not stored: fields were changed"
        )


@app.command(epilog="`unlabeled doctor --json`")
def doctor(as_json: Json = False) -> None:
    """Say what this machine has: versions, cores, bf16, GPU, data sets, optional packages."""
    from unlabeled.doctor import examine

    checks = examine()
    if as_json:
        _out(checks)
        return
    console = Console()
    for check in checks:
        mark = "[green]ok  [/green]" if check["ok"] else "[yellow]note[/yellow]"
        text = escape(f"{check['what']}: {check['says']}")
        console.print(f"{mark} {text}", soft_wrap=True, highlight=False)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every error ends in one line and a non-zero exit status."""
    # torch's thread pool spins while it waits; beside another busy process that made a step on
    # two cores 50 times slower than sleeping does, and sleeping costs nothing that could be seen
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    complain = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    try:
        app(args=arguments, prog_name="unlabeled")  # leaves by SystemExit, usage errors included
    except Exception as error:
        if os.environ.get("UNLABELED_DEBUG"):
            raise
        sys.exit(_complain(error, complain.print))


def _complain(error: Exception, say: Callable[[str], None]) -> int:
    known = isinstance(error, ValueError | OSError | RuntimeError | ImportError | MemoryError)
    if "torch" in sys.modules:
        from unlabeled.console import explain

        text = explain(error)
    else:
        text = " ".join(str(error).split()) or type(error).__name__
    if known:
        say(f"error: {text}")
    else:
        say(
            f"internal error: {type(error).__name__}: {text} "
            "(a fault of ours: UNLABELED_DEBUG=1 shows the trace to report)"
        )
    return 130 if type(error).__name__ == "Interrupted" else 1


if __name__ == "__main__":
    main()
