"""The table of scores and lists of facts, as HTML."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from itertools import groupby

from unlabeled.report.scores import Cell, Column, Table


def fact_list(rows: Iterable[tuple[str, str, str]]) -> str:
    """Return (name, text, address or "") rows as a <dl>, "" where there are none."""
    items = []
    for name, text, url in rows:
        shown = escape(text)
        if url.startswith(("https://", "http://")):
            shown = f'<a href="{escape(url)}" rel="noreferrer">{shown}</a>'
        items.append(f"<dt>{escape(name)}</dt><dd>{shown}</dd>")
    return f'<dl class="facts">{"".join(items)}</dl>' if items else ""


def score_table(table: Table) -> str:
    """Return the table; the first row is the encoder's."""
    firsts = [
        place == 0 or table.columns[place - 1].protocol != column.protocol
        for place, column in enumerate(table.columns)
    ]
    groups = "".join(
        f'<th class="group first" scope="colgroup" colspan="{len(list(columns))}">'
        f"{escape(protocol)}</th>"
        for protocol, columns in groupby(table.columns, key=lambda column: column.protocol)
    )
    heads = "".join(map(_head, table.columns, firsts))
    rows = "".join(
        f'<tr{_class("own" if place == 0 else "")}><th scope="row">{escape(name)}</th>'
        f"{''.join(map(_cell, table.cells[place], firsts))}</tr>"
        for place, name in enumerate(table.names)
    )
    return (
        f'<div class="scroll"><table class="scores"><thead><tr><td rowspan="2"></td>{groups}</tr>'
        f"<tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def protocol_notes(table: Table) -> str:
    """Say how to read the table; then a line a protocol: its id, settings, how many samples."""
    texts = ["Bold is the best of a column; ± in the table is the standard deviation over trials."]
    cells = [cell for row in table.cells for cell in row if cell is not None]
    if any(cell.over is not None for cell in cells):
        texts.append(
            "The second line of a floor is how many points the encoder is above it, gray where "
            "that is within two standard errors."
        )
    texts.append("Figures compare only under the same protocol.")
    lines = []
    for protocol, group in groupby(table.columns, key=lambda column: column.protocol_id):
        columns = list(group)
        shared = [note for note in columns[0].notes if all(note in each.notes for each in columns)]
        own = [
            f"{' '.join(filter(None, (each.readout, each.metric)))}: {', '.join(rest)}"
            for each in columns
            if (rest := [note for note in each.notes if note not in shared])
        ]
        trials = {
            cell.trials
            for row in table.cells
            for cell, column in zip(row, table.columns, strict=True)
            if cell is not None and cell.trials and column.protocol_id == protocol
        }
        text = "; ".join(filter(None, [", ".join([*shared, *sorted(trials)]), *own]))
        name = escape(columns[0].protocol)
        lines.append(f"<li>{name} (<code>{escape(protocol)}</code>): {escape(text)}</li>")
    return (
        f'<p class="note">{" ".join(texts)}</p><details><summary>Protocols and sample counts'
        f'</summary><ul class="says">{"".join(lines)}</ul></details>'
    )


def _head(column: Column, first: bool) -> str:
    metric = f'<br><span class="soft">{escape(column.metric)}</span>' if column.readout else ""
    name = escape(column.readout or column.metric)
    return f'<th scope="col"{_class("first" if first else "")}>{name}{metric}</th>'


def _cell(cell: Cell | None, first: bool) -> str:
    if cell is None:
        return f"<td{_class('first' if first else '')}></td>"
    names = _class("first" if first else "", "best" if cell.best else "")
    spread = f' <span class="spread">± {escape(cell.spread)}</span>' if cell.spread else ""
    title = f' title="{escape(cell.trials)}"' if cell.trials else ""
    over = ""
    if cell.over is not None:
        kind = {1: "above", 0: "unclear", -1: "below"}[cell.over.sign]
        over = (
            f'<span class="over {kind}" title="± {escape(cell.over.margin)}">'
            f"{escape(cell.over.text)}</span>"
        )
    return f'<td{names}{title}><span class="value">{escape(cell.value)}</span>{spread}{over}</td>'


def _class(*names: str) -> str:
    kept = " ".join(filter(None, names))
    return f' class="{kept}"' if kept else ""
