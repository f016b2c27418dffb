"""The catalog as Markdown, and the block of README.md that holds it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from unlabeled.catalog.card_files import Card, cards
from unlabeled.catalog.result_files import FLOORS, PACKAGE, RESULTS, Result, results
from unlabeled.catalog.state import status

BEGIN = "<!-- catalog:begin -->"
END = "<!-- catalog:end -->"
COLUMNS = ("id", "name", "modality", "family", "status", "published", "measured")


def render_table(*, folder: Path = RESULTS, package: Path = PACKAGE) -> str:
    """Return the Markdown table of all rows.

    The published column shows the card's first figure, the measured one the main score of each
    preset; both name their data, encoder and epochs.
    """
    lines = [line(COLUMNS), line("---" for _ in COLUMNS)]
    for stem, one in cards().items():
        measured = results(one.duplicate_of or stem, folder=folder).values()
        lines.append(
            line(
                (
                    str(one.id),
                    f"[{one.name}]({one.url})",
                    one.modality,
                    one.family,
                    status(stem, folder=folder, package=package),
                    published_text(one),
                    "; ".join(measured_text(result) for result in measured),
                )
            )
        )
    return "\n".join(lines)


def published_text(one: Card) -> str:
    """Return the card's first figure with its conditions in one line, or nothing."""
    if one.kind == "duplicate":
        return f"see {one.duplicate_of}"
    if not one.published:
        return ""
    figure = one.published[0]
    epochs = "" if figure.epochs is None else _epochs(figure.epochs)
    doubt = "unconfirmed" if figure.unconfirmed else ""
    conditions = _join(figure.data, figure.encoder, epochs, figure.protocol, doubt)
    return f"{_value(figure.value, figure.unit)} {figure.metric} ({conditions})"


def measured_text(result: Result) -> str:
    """Return the main score of a result with its floors and conditions in one line."""
    score = result.main
    protocol = result.protocols[score]
    if "encoder" not in result.scores[score]:
        return _study_text(result)
    value, spread = result.mean(score, "encoder"), result.spread(score, "encoder")
    floors = "".join(
        f", {branch} {result.mean(score, branch):.4g}"
        for branch in result.scores[score]
        if branch != "encoder"
    )
    shown = f"{value:.4g} ± {spread:.2g}" if len(result.seeds) > 1 else f"{value:.4g}"
    conditions = _join(result.data, result.encoder, _epochs(result.epochs), result.preset)
    return f"{_value(shown, protocol['unit'])} {score} {protocol['metric']}{floors} ({conditions})"


def _study_text(result: Result) -> str:
    """The best and the worst of a study's recipes."""
    score = result.main
    protocol = result.protocols[score]
    ranked = sorted(result.trained, key=lambda branch: result.mean(score, branch), reverse=True)
    best, worst = (f"{name} {result.mean(score, name):.4g}" for name in (ranked[0], ranked[-1]))
    conditions = _join(result.data, result.encoder, _epochs(result.epochs), result.preset)
    return (
        f"{len(ranked)} recipes, {score} {protocol['metric']} from {worst} to {best} "
        f"{protocol['unit']} ({conditions})"
    )


def study_table(result: Result) -> str:
    """Return a study's Markdown table, a row a recipe, and what the figures show."""
    scores = list(result.scores)
    heads = [
        _join(score, result.protocols[score]["metric"], result.protocols[score]["unit"])
        for score in scores
    ]
    lines = [line(("recipe", *heads)), line("---" for _ in ("recipe", *heads))]
    for branch in (*result.trained, *(floor for floor in FLOORS if floor in _branches(result))):
        cells = [
            f"{result.mean(score, branch):.4g} ± {result.spread(score, branch):.2g}"
            if branch in result.scores[score]
            else ""
            for score in scores
        ]
        lines.append(line((branch, *cells)))
    return "\n".join([*lines, "", *(f"- {sentence}" for sentence in result.report)]).rstrip()


def _branches(result: Result) -> set[str]:
    return {branch for branches in result.scores.values() for branch in branches}


def replace_block(text: str, table: str) -> str:
    """Return the text with what lies between the markers replaced by the table.

    Raises:
        ValueError: the text does not hold each marker once, in order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"the table's place must be marked once by {BEGIN} and {END}")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def line(cells: Iterable[str]) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _join(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _value(value: float | str, unit: str) -> str:
    return f"{value} {unit}" if unit else str(value)


def _epochs(count: float) -> str:
    return f"{count:g} epoch" if count == 1 else f"{count:g} epochs"
