"""The status of each row, computed from the files: which are built, and what their results say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from unlabeled.catalog.card_files import card, cards
from unlabeled.catalog.result_files import (
    FLOORS,
    PACKAGE,
    RESULTS,
    Result,
    results,
    source_hashes,
)

Status = Literal["not yet", "implemented", "stale", "not learning", "measured"]


def module_path(stem: str, *, package: Path = PACKAGE) -> Path | None:
    """Return the file that builds a stem, in `methods/<modality>/` or `studies/`, or None."""
    places = (*sorted(package.glob(f"methods/*/{stem}.py")), package / "studies" / f"{stem}.py")
    return next((path for path in places if path.is_file()), None)


def status(
    stem: str,
    *,
    folder: Path = RESULTS,
    package: Path = PACKAGE,
    fingerprint: Callable[[str, str], str] | None = None,
) -> Status:
    """Return how far a row has come.

    ``not yet``: no file builds it. ``implemented``: no result. ``stale``: a source of the result
    has changed since. ``not learning``: the main score is not above the random encoder by more
    than the spread. ``measured``: all else. The ``small`` preset decides where there are several;
    a duplicate has the status of the row that it repeats.

    Args:
        stem: the row.
        folder: where the results lie.
        package: the package whose files count.
        fingerprint: (stem, preset) -> the recipe's current fingerprint; a result with another is
            stale too. Without it no recipe is built, so torch is not imported.

    Raises:
        ValueError: no such stem, or a broken result.
    """
    row = card(stem)
    stem = row.duplicate_of or stem
    if module_path(stem, package=package) is None:
        return "not yet"
    found = results(stem, folder=folder)
    if not found:
        return "implemented"
    result = next(iter(found.values()))
    if _stale(result, package, fingerprint):
        return "stale"
    return "measured" if result.learns() else "not learning"


def rows(
    *,
    folder: Path = RESULTS,
    package: Path = PACKAGE,
    fingerprint: Callable[[str, str], str] | None = None,
) -> list[dict[str, Any]]:
    """Return all rows as plain dicts, in the order of their ids.

    Keys: id, stem, name, title, modality, family, kind, status, published (a list of the card's
    figures) and measured (a list with an entry a preset, evaluator and recipe of a study: preset,
    recipe ("encoder" but in studies), evaluator, metric, unit, value, spread, floors, seeds, data,
    encoder, epochs, device).
    """
    listed = []
    for stem, one in cards().items():
        found = results(one.duplicate_of or stem, folder=folder)
        listed.append(
            {
                "id": one.id,
                "stem": stem,
                "name": one.name,
                "title": one.title,
                "modality": one.modality,
                "family": one.family,
                "kind": one.kind,
                "status": status(stem, folder=folder, package=package, fingerprint=fingerprint),
                "published": [asdict(figure) for figure in one.published],
                "measured": [
                    _measured(result, score, branch)
                    for result in found.values()
                    for score in result.scores
                    for branch in result.trained
                    if branch in result.scores[score]
                ],
            }
        )
    return listed


def _stale(result: Result, package: Path, fingerprint: Callable[[str, str], str] | None) -> bool:
    paths = (package.parent / name for name in result.sources)
    present = (path for path in paths if path.is_file())
    if source_hashes(present, package=package) != result.sources:
        return True
    return fingerprint is not None and fingerprint(result.stem, result.preset) != result.fingerprint


def _measured(result: Result, score: str, branch: str) -> dict[str, Any]:
    protocol = result.protocols[score]
    return {
        "preset": result.preset,
        "recipe": branch,
        "evaluator": score,
        "metric": protocol["metric"],
        "unit": protocol["unit"],
        "value": result.mean(score, branch),
        "spread": result.spread(score, branch),
        "floors": {
            floor: result.mean(score, floor) for floor in FLOORS if floor in result.scores[score]
        },
        "seeds": len(result.seeds),
        "data": result.data,
        "encoder": result.encoder,
        "epochs": result.epochs,
        "device": result.device,
    }
