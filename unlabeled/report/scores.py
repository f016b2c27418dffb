"""The table of scores: the encoder beside its floors, one column a protocol and read-out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LABEL_FREE = "labelfree"
_FLOORS = ("raw", "random", "supervised")
_PROTOCOLS = {
    "knn": "kNN",
    "linear": "Linear probe",
    "fewlabel": "Few labels",
    "supervised": "All labels",
    LABEL_FREE: "Label-free",
}
_READOUTS = {"pooled": "pooled", "grid2": "2×2 local"}
_SETTINGS = (("k", "k"), ("temperature", "temperature"))


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far the encoder is above a floor, as text, and whether that exceeds the margin.

    ``sign`` is 1 or -1 where it does, else 0.
    """

    text: str
    margin: str
    sign: int


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A score as text, with its spread over trials and what these are ("" where there is one)."""

    value: str
    spread: str = ""
    trials: str = ""
    best: bool = False
    over: Difference | None = None


@dataclass(frozen=True, kw_only=True)
class Column:
    """What a column holds: protocol and its id, read-out, metric, and settings with counts."""

    protocol: str
    protocol_id: str
    readout: str
    metric: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Table:
    """Scores by name (rows, the encoder first) and column; a cell is None where not measured."""

    names: tuple[str, ...]
    columns: tuple[Column, ...]
    cells: tuple[tuple[Cell | None, ...], ...]


def tables(scores: Mapping[str, Any]) -> tuple[Table | None, Table | None]:
    """Arrange ``scores["rows"]`` into a table of what needed labels, and one of what did not.

    A row has ``name``, ``protocol``, ``metric`` and ``value``, and may have ``readout``, ``unit``,
    ``spread``, ``trials`` (values), ``train`` and ``test`` (samples) and ``details`` (settings).
    ``scores["model"]`` names the encoder (by default the first row), ``scores["comparisons"]``
    its differences to the floors. The best value of a column that needed labels is marked.
    """
    rows = list(scores.get("rows", ()))
    if not rows:
        return None, None
    own = str(scores.get("model") or rows[0]["name"])
    over = {
        (str(each["floor"]), *_key(each)): each
        for each in scores.get("comparisons", ())
        if each.get("floor_protocol", each["protocol"]) == each["protocol"]
    }
    free = [row for row in rows if _stem(row) == LABEL_FREE]
    labeled = [row for row in rows if _stem(row) != LABEL_FREE]
    return _table(labeled, own, over), _table(free, own, {})


def verdict(scores: Mapping[str, Any]) -> str:
    """Return one sentence that counts the comparisons with each floor, "" where there are none.

    "Yes" where the encoder is above raw pixels and random weights in all, by more than the margin
    of each; "not here" where it is above one of the two in none; else "partly".
    """
    signs: dict[str, list[int]] = {}
    for each in scores.get("comparisons", ()):
        signs.setdefault(str(each["floor"]), []).append(_sign(each))
    if not signs:
        return ""
    floors = sorted(signs, key=lambda name: _rank(name, ""))
    parts = [_counted(floor, signs[floor]) for floor in floors]
    judged = [signs[floor] for floor in floors if not floor.startswith("supervised")]
    if judged and all(sign > 0 for each in judged for sign in each):
        answer = "Yes, here"
    elif any(max(each) <= 0 for each in judged):
        answer = "Not here"
    else:
        answer = "Partly"
    return f"{answer}: the encoder is {'; '.join(parts)}."


def _counted(floor: str, signs: Sequence[int]) -> str:
    above, below, count = signs.count(1), signs.count(-1), len(signs)
    text = f"above {floor} in {'all ' if above == count > 1 else f'{above} of '}{count} comparisons"
    rest = [f"below in {below}"] if below else []
    rest += [f"no difference shown in {count - above - below}"] if above + below < count else []
    return f"{text} ({', '.join(rest)})" if rest else text


def _sign(comparison: Mapping[str, Any]) -> int:
    if not comparison["shown"]:
        return 0
    return 1 if comparison["difference"] > 0 else -1


def _table(
    rows: Sequence[Mapping[str, Any]], own: str, over: Mapping[tuple[str, ...], Mapping[str, Any]]
) -> Table | None:
    if not rows:
        return None
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(_key(row), []).append(row)
    stems = list(dict.fromkeys(_stem(row) for row in rows))
    keys = sorted(groups, key=lambda key: stems.index(_stem(groups[key][0])))
    names = sorted(
        dict.fromkeys(str(row["name"]) for row in rows), key=lambda name: _rank(name, own)
    )
    cells: list[dict[str, Cell]] = []
    for key in keys:
        pick = max if groups[key][0].get("higher_is_better", True) else min
        best = pick(float(row["value"]) for row in groups[key])
        ranked = _stem(groups[key][0]) != LABEL_FREE and len(groups[key]) > 1
        cells.append(
            {
                str(row["name"]): _cell(
                    row,
                    best=ranked and float(row["value"]) == best,
                    over=over.get((str(row["name"]), *key)),
                )
                for row in groups[key]
            }
        )
    return Table(
        names=tuple(names),
        columns=tuple(_column(groups[key]) for key in keys),
        cells=tuple(tuple(column.get(name) for column in cells) for name in names),
    )


def _stem(row: Mapping[str, Any]) -> str:
    return str(row["protocol"]).partition("/")[0].lower()


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return str(row["protocol"]), str(row["metric"]), str(row.get("readout") or "")


def _rank(name: str, own: str) -> int:
    """The encoder comes first, then the floors in their order, then others."""
    if name == own:
        return -1
    known = (place for place, word in enumerate(_FLOORS) if name.lower().startswith(word))
    return next(known, len(_FLOORS))


def _column(rows: Sequence[Mapping[str, Any]]) -> Column:
    row = rows[0]
    notes = _settings(rows)
    for key, text in (("train", "training samples"), ("test", "test samples")):
        counts = {int(each[key]) for each in rows if each.get(key)}
        if len(counts) == 1:
            notes.append(f"{counts.pop():,} {text}")
    readout = str(row.get("readout") or "")
    return Column(
        protocol=_PROTOCOLS.get(_stem(row), _stem(row)),
        protocol_id=str(row["protocol"]),
        readout=_READOUTS.get(readout, readout),
        metric=str(row["metric"]).replace("_", " ") + (f", {row['unit']}" if _unit(row) else ""),
        notes=tuple(notes),
    )


def _settings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings of a protocol on which all rows of a column agree."""
    details = [dict(row.get("details") or {}) for row in rows]
    shared = {
        key: value
        for key, value in details[0].items()
        if all(other.get(key) == value for other in details)
    }
    texts = [f"{name} {shared[key]:g}" for key, name in _SETTINGS if key in shared]
    if "share" in shared:
        texts.append(f"{100 * shared['share']:g} % of the labels")
    if "strengths" in shared:
        texts.append(f"regularization chosen from {len(shared['strengths'])} on training labels")
    return texts


def _unit(row: Mapping[str, Any]) -> str:
    return str(row.get("unit") or "")


def _cell(row: Mapping[str, Any], *, best: bool, over: Mapping[str, Any] | None) -> Cell:
    percent = _unit(row) == "%"
    spread = row.get("spread")
    difference = None
    if over is not None:
        difference = Difference(
            text=f"{over['difference']:+.1f}", margin=f"{over['margin']:.1f}", sign=_sign(over)
        )
    return Cell(
        value=_number(float(row["value"]), percent=percent),
        spread="" if spread is None else _number(float(spread), percent=percent),
        trials=_trials(row),
        best=best,
        over=difference,
    )


def _trials(row: Mapping[str, Any]) -> str:
    count = len(row.get("trials") or ())
    if count < 2:
        return ""
    details = row.get("details") or {}
    kind = "random seeds" if "seeds" in details else "draws of labels" if "draws" in details else ""
    return f"{count} {kind or 'trials'}"


def _number(value: float, *, percent: bool) -> str:
    if percent:
        return f"{value:.1f}"
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"
