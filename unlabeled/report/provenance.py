"""How a run was made: its recipe as text, the command that repeats it, machine and versions."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unlabeled.artifacts import Model, Run, environment, read_json
from unlabeled.recipe import describe, field_lines

_OPTIONS = ("data", "encoder", "epochs", "batch_size", "precision", "seed", "init", "grad_cache")
_FLAGS = ("compile",)
_PYTHON_VALUE = re.compile(r"^\w+\(.*\)$", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What it takes to get the same encoder again.

    ``command`` is "" where the run did not come from the command line's names, as with recipes
    and data that were given as Python objects.
    """

    recipe: tuple[str, ...] = ()
    fingerprint: str = ""
    overrides: tuple[str, ...] = ()
    commit: str = ""
    command: str = ""
    called: str = ""
    environment: tuple[tuple[str, str], ...] = ()


def provenance(run: Run | None) -> Provenance:
    """Read how a run was made; without one, say on which machine the page was made."""
    if run is None:
        return Provenance(environment=_flat(environment()), commit=_commit(environment()))
    info = run.info
    facts = read_json(run.path / "environment.json")
    return Provenance(
        recipe=tuple(line.strip() for line in field_lines(info["recipe"]["options"])),
        fingerprint=str(info.get("fingerprint", "")),
        overrides=tuple(f"{key} = {value}" for key, value in info["overrides"].items()),
        commit=_commit(facts),
        command=command(str(info["name"]), info["overrides"]),
        called=str(facts.get("command", "")),
        environment=_flat(facts),
    )


def command(name: str, overrides: Mapping[str, Any]) -> str:
    """Return the shell command that starts this run again, or "" where there is none."""
    if name == "recipe" or any(_PYTHON_VALUE.match(str(value)) for value in overrides.values()):
        return ""
    words = ["unlabeled", "pretrain", name]
    words += [
        word
        for key in _OPTIONS
        if key in overrides
        for word in (f"--{key.replace('_', '-')}", str(overrides[key]))
    ]
    words += [f"--{key}" for key in _FLAGS if key in overrides]
    named = (*_OPTIONS, *_FLAGS)
    words += [f"{key}={value}" for key, value in overrides.items() if key not in named]
    return shlex.join(words)


def encoder_text(model: Model) -> str:
    """Return the encoder's builder with its options, or its class where there is no builder."""
    if model.builder is None:
        return type(model.encoder).__name__
    text = describe(model.builder)
    address = text.get("partial") or text.get("make") or text.get("name") or ""
    options = ", ".join(
        f"{key} {value}" for key, value in text.get("options", {}).items() if value is not None
    )
    name = address.rpartition(":")[2]
    return f"{name} ({options})" if options else name


def _flat(facts: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    rows: list[tuple[str, str]] = []
    for key, value in facts.items():
        if key in ("commit", "command") or value in (None, ""):
            continue
        if isinstance(value, Mapping):
            text = ", ".join(f"{name} {number}" for name, number in value.items() if number)
            rows.append((str(key), text))
        else:
            rows.append((str(key), str(value)))
    return tuple(rows)


def _commit(facts: Mapping[str, Any]) -> str:
    return str(facts.get("commit", ""))
