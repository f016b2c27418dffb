"""list, taxonomy, show: the papers."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from unlabeled.commands.app import Json, app, print_json


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
        print_json(rows)
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
        print_json(rows)
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
        print_json({**facts, "recipes": recipes})
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
