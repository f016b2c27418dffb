"""data list, get, info, pack, verify, shard, index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from unlabeled.commands.app import Json, app, consoles, print_json

data_app = typer.Typer(
    help="Data sets: list, get, info, pack, verify, shard, index.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.add_typer(data_app, name="data")


@data_app.command("list", epilog="`unlabeled data list --json`")
def data_list(as_json: Json = False) -> None:
    """Show the data sets that have a name, and where they were found."""
    from unlabeled.data import known

    rows = [each._asdict() for each in known()]
    if as_json:
        print_json(rows)
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

    console = consoles(as_json)
    show_log(console)
    place = get(name)
    if as_json:
        print_json({"name": name, "place": str(place)})
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

    console = consoles(as_json)
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

    console = consoles(as_json)
    show_log(console)
    path, listing = write_index(shards, out=None if out is None else str(out))
    _shards_done(listing, path, console, as_json)


def _shards_done(listing: Any, place: Path, console: Console, as_json: bool) -> None:
    samples = sum(shard.samples for shard in listing.shards)
    classes = None if listing.classes is None else len(listing.classes)
    if as_json:
        print_json({
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

    console = consoles(as_json)
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
        print_json(facts)
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

    console = consoles(as_json)
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
        print_json(facts)
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

    console = consoles(as_json)
    with counted(console, "images") as progress:
        facts = verify(str(pack), progress=progress)
    damaged = facts["damaged"]
    assert isinstance(damaged, list)
    if as_json:
        print_json(facts)
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
