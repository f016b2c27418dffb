"""The cards: one TOML file a row of the paper list, facts only, written by hand."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_origin, get_type_hints

PAPERS = Path(__file__).parent / "papers"
KINDS = ("method", "recipe", "evaluation", "survey", "duplicate")
MODALITIES = ("image", "video", "geometry", "text", "speech", "graph", "control")


@dataclass(frozen=True, kw_only=True)
class Published:
    """A figure that a paper or its authors' code states, with the conditions that it holds under.

    ``unconfirmed`` figures could not be checked against the paper or the code. ``epochs`` count
    pretraining; None where the source does not say.
    """

    metric: str
    value: int | float
    data: str
    source: str
    unit: str = ""
    protocol: str = ""
    encoder: str = ""
    epochs: int | None = None
    unconfirmed: bool = False


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """Where our code departs from the paper: what is different, why, and what that changes."""

    what: str
    why: str
    effect: str


@dataclass(frozen=True, kw_only=True)
class Taxonomy:
    """Where a contrastive method stands in the scheme of the review (crl_review, section III).

    similarity: what makes two inputs similar: other ``sensory`` channels of one thing, a
    ``transformation``, a part and its ``context``, neighbors in a ``sequence``, or ``clusters``.
    encoder: ``shared`` by query and key, two ``separate`` ones, a ``momentum`` copy, or
    ``frozen``. head: ``none``, ``projection``, ``contextualization`` or ``quantization``. loss:
    ``margin``, ``softmax`` (InfoNCE and its kin), ``binary`` (NCE), bounds on ``information``,
    ``prototype``, and without negatives ``regression`` and ``redundancy``.
    """

    similarity: str
    encoder: str
    head: str
    loss: str


SCHEME = {
    "similarity": ("sensory", "transformation", "context", "sequence", "clusters"),
    "encoder": ("shared", "separate", "momentum", "frozen"),
    "head": ("none", "projection", "contextualization", "quantization"),
    "loss": (
        *("margin", "softmax", "binary", "information"),
        *("prototype", "regression", "redundancy"),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """A row of the paper list.

    ``venue`` and ``listed_as`` are the list's own words; ``arxiv`` is the paper's own id also
    where the list states another. ``labels`` is True if the method itself reads labels.
    ``duplicate_of`` is the stem of the row that a row of kind ``duplicate`` repeats.
    """

    id: int
    stem: str
    name: str
    title: str
    url: str
    arxiv: str
    venue: str
    year: int
    listed_as: str
    kind: str
    family: str
    modality: str
    labels: bool
    code: str
    summary: str
    duplicate_of: str = ""
    taxonomy: Taxonomy | None = None
    published: tuple[Published, ...] = ()
    deviation: tuple[Deviation, ...] = ()


def cards(folder: Path = PAPERS) -> dict[str, Card]:
    """Return all cards by stem, in the order of their ids.

    Raises:
        ValueError: a card is not valid TOML, or lacks a field, or has one that no card has; the
            message names the file.
    """
    return dict(_cards(folder))


def card(stem: str) -> Card:
    """Return the card of a stem.

    Raises:
        ValueError: no such stem; the message lists the nearest ones.
    """
    known = cards()
    if stem not in known:
        near = get_close_matches(stem, known, n=3, cutoff=0.5)
        near += [other for other in known if stem and stem in other and other not in near][:3]
        hint = f"did you mean {', '.join(near)}?" if near else "`unlabeled list` shows all"
        raise ValueError(f"no paper has the stem {stem!r}: {hint}")
    return known[stem]


@cache
def _cards(folder: Path) -> dict[str, Card]:
    found = sorted((_read(path) for path in folder.glob("*.toml")), key=lambda one: one.id)
    return {one.stem: one for one in found}


def _read(path: Path) -> Card:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from error
    table["published"] = tuple(_build(Published, one, path) for one in table.get("published", ()))
    table["deviation"] = tuple(_build(Deviation, one, path) for one in table.get("deviation", ()))
    if "taxonomy" in table:
        table["taxonomy"] = _build(Taxonomy, table["taxonomy"], path)
    built = _build(Card, table, path)
    if built.taxonomy is not None:
        for part, allowed in SCHEME.items():
            value = getattr(built.taxonomy, part)
            if value not in allowed:
                raise ValueError(f"{path}: {part} is {value!r}: it must be one of {allowed}")
    if built.stem != path.stem:
        raise ValueError(f"{path}: stem is {built.stem!r}: it must be the file's name")
    for field, value, allowed in (
        ("kind", built.kind, KINDS),
        ("modality", built.modality, MODALITIES),
    ):
        if value not in allowed:
            raise ValueError(f"{path}: {field} is {value!r}: it must be one of {allowed}")
    return built


Entry = TypeVar("Entry", Published, Deviation, Taxonomy, Card)


def _build(kind: type[Entry], table: Mapping[str, Any], path: Path) -> Entry:
    where = f"{path}: {kind.__name__.lower()}"
    hints = get_type_hints(kind)
    needed = {field.name for field in fields(kind) if field.default is MISSING}
    if missing := sorted(needed - set(table)):
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    for key, value in table.items():
        if key not in hints:
            raise ValueError(f"{where} has no field {key!r}: it has {', '.join(hints)}")
        wanted = get_origin(hints[key]) if get_origin(hints[key]) is tuple else hints[key]
        # bool is a kind of int in Python, never in a card
        if not isinstance(value, wanted) or (wanted is not bool and isinstance(value, bool)):
            raise ValueError(f"{where}: {key} is {value!r}: it must be {wanted}")
    return kind(**table)
