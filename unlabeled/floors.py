"""Floors judged once: the same pixels and the same random weights score the same every time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from unlabeled.artifacts import environment, write_json
from unlabeled.evaluators.evaluator import is_task
from unlabeled.evaluators.scores import RANDOM, RAW, Row
from unlabeled.recipe import Recipe, describe

PACKAGE = Path(__file__).parent
APART = ("methods", "studies", "catalog", "report")
"""Folders that no floor depends on."""
NAMES = {"raw": RAW, "random": RANDOM}


@dataclass(frozen=True)
class Floors:
    """Rows of floors in a folder, for the runs that share data, encoder, judges and seed.

    A file's name is a hash of all that a floor depends on, the package's own code included, so a
    floor is judged again whenever one of these changes.
    """

    folder: Path

    def read(self, floor: str, recipe: Recipe, judges: Sequence[Any], seed: int) -> list[Row]:
        """Return the rows of "raw" or "random", or none where it is to be judged."""
        if not _shared(judges):
            return []
        try:
            stored = json.loads(self._file(floor, recipe, judges, seed).read_text())
        except FileNotFoundError:
            return []
        return [Row(**{**row, "trials": tuple(row["trials"])}) for row in stored["rows"]]

    def write(
        self, floor: str, recipe: Recipe, judges: Sequence[Any], seed: int, rows: Iterable[Row]
    ) -> None:
        """Keep the floor's rows among ``rows``."""
        if not _shared(judges):
            return
        kept = [row.to_json() for row in rows if row.name == NAMES[floor]]
        path = self._file(floor, recipe, judges, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"rows": kept})

    def _file(self, floor: str, recipe: Recipe, judges: Sequence[Any], seed: int) -> Path:
        parts: dict[str, Any] = {
            "data": describe(recipe.data),
            "judges": describe(judges),
            "seed": seed,
            "code": _code(),
            "versions": environment()["versions"],
            "device": "cuda" if torch.cuda.is_available() else environment()["processor"],
        }
        if floor == "random":
            parts["encoder"] = describe(recipe.encoder)
            parts["spec"] = repr(recipe.fitted().views.spec)
        text = json.dumps(parts, sort_keys=True)
        return self.folder / f"{floor}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def _shared(judges: Sequence[Any]) -> bool:
    """Whether the floors depend on the encoder alone, and not on the method's other networks."""
    return not any(map(is_task, judges))


@cache
def _code() -> str:
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE)
        if place.parts[0] not in APART:
            digest.update(place.as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
