"""What all commands share: the app, its options, and how values are printed."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

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
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value and nothing else.")]


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def consoles(as_json: bool) -> Console:
    """With --json the console is silent: standard output carries the JSON alone."""
    return Console(stderr=as_json, quiet=as_json)


def pairs(changes: list[str]) -> dict[str, str]:
    """Read ``key=value`` arguments."""
    found = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise ValueError(f"{change!r} is no key=value pair, such as method.temperature=0.2")
        found[key] = value
    return found
