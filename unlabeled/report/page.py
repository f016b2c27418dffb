"""The page: one self-contained HTML file that asks nothing of any server."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from unlabeled.report.content import Fact, ReportContent
from unlabeled.report.pictures import Picture, Sprite
from unlabeled.report.plots import PALETTE, data, plot
from unlabeled.report.tables import fact_list, protocol_notes, score_table

NO_LABELS = (
    "There are no labels here, so nothing on this page can say whether the encoder helps: "
    "the numbers below say only whether it is healthy."
)
LABEL_FREE_NOTE = (
    '<p class="note">Relative std is 1 where the features are spread evenly and 0 where they '
    "collapsed; the ranks count the dimensions in use. More is not always better.</p>"
)
NO_SCORES = (
    "Nothing was scored against the labels, so this page cannot say whether the encoder helps."
)
SCALED = (
    "Channels beyond gray or color cannot be seen: the pictures show {shown}, each scaled to its "
    "own smallest and largest value."
)
SHAPES = (
    '<circle cx="7" cy="7" r="4.5"/>',
    '<rect x="3" y="3" width="8" height="8"/>',
    '<path d="M7 2 12 11H2z"/>',
    '<path d="M7 1l6 6-6 6-6-6z"/>',
)


def render(content: ReportContent) -> str:
    """Return the page; sections without content are left out, and all text is escaped."""
    found = [
        (anchor, heading, body) for anchor, heading, make in _SECTIONS if (body := make(content))
    ]
    slots = {
        "title": escape(content.title),
        "style": _read("report.css") + _sprite_rules(content),
        "facts": _facts(content.facts),
        "navigation": _navigation([(anchor, heading) for anchor, heading, _ in found]),
        "sections": "\n".join(
            f'<section id="{anchor}"><h2>{heading}</h2>{body}</section>'
            for anchor, heading, body in found
        ),
        "json": _json(_script_data(content)),
        "script": _read("report.js"),
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda slot: slots[slot[1]], _read("template.html"))
    # paths that are no valid text hold surrogates, which no file can
    return page.encode("utf-8", "replace").decode()


def write_report(path: str | Path, content: ReportContent) -> Path:
    """Write the page atomically and return its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part{os.getpid()}")
    try:
        part.write_text(render(content), encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


@cache
def _read(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8").rstrip("\n")


def _json(value: Any) -> str:
    """JSON that cannot end the script element that it stands in."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


# Sections: each returns "" where there is nothing to show -----------------------------------------


def _help(content: ReportContent) -> str:
    parts = []
    headline = content.headline
    if not headline and content.table is None:
        labeled = any(sample.label is not None for sample in content.samples)
        headline = NO_SCORES if labeled else NO_LABELS
    if headline:
        parts.append(f'<p class="headline">{escape(headline)}</p>')
    if content.table is not None:
        parts.append(score_table(content.table))
    parts += [f"<p>{escape(text)}</p>" for text in content.sentences]
    if content.table is not None:
        parts.append(protocol_notes(content.table))
    if content.comparisons:
        items = "".join(f"<li>{escape(text)}</li>" for text in content.comparisons)
        parts.append(
            f"<details><summary>Each comparison in words ({len(content.comparisons)})</summary>"
            f'<ul class="says">{items}</ul></details>'
        )
    health = _facts(content.health)
    if content.label_free is not None:
        health = score_table(content.label_free) + LABEL_FREE_NOTE
    if health and content.table is not None:
        parts.append(f"<details><summary>Numbers without labels</summary>{health}</details>")
    elif health:
        parts.append(health)
    return "".join(parts)


def _training(content: ReportContent) -> str:
    if not content.charts:
        return ""
    drawn = "".join(plot(chart, number=number) for number, chart in enumerate(content.charts))
    return (
        '<p class="soft">Against optimizer steps; point at a chart to read its values.</p>'
        f'<div class="charts">{drawn}</div>'
    )


def _map(content: ReportContent) -> str:
    if content.map is None:
        return ""
    labels = sorted({sample.label for sample in content.samples if sample.label is not None})
    text = (
        f"{len(content.map.points):,} {escape(content.split)} samples, their embeddings laid out "
        f"on a plane by {content.map.technique}"
    )
    if content.map.technique == "t-SNE":
        text += (
            ": who is near whom means something, how far groups are apart and how large they are "
            "does not"
        )
    text += ". Point at or tap a sample to see it."
    if labels:
        text += " Colors are labels."
    legend = ""
    if labels:
        keys = "".join(_legend_key(content, label) for label in labels)
        both = "".join(
            f'<button type="button" class="all" data-all="{on}">{name}</button>'
            for on, name in (("true", "all"), ("false", "none"))
        )
        legend = f'<div class="legend">{both}{keys}</div>'
    return (
        f'<p>{text}</p>{_scaled(content.channels)}<div class="map{"" if labels else " plain"}">'
        '<div class="plot"><canvas role="img" aria-label="map of the embeddings"></canvas>'
        f'<div class="tip"></div></div>{legend}</div>'
    )


def _neighbors(content: ReportContent) -> str:
    found, tiles = content.neighbors, content.tiles
    if found is None or tiles is None:
        return ""
    text = (
        f"Some {escape(content.split)} samples (left) and the {found.k} of the other "
        f"{len(content.samples) - 1:,} on the map whose embeddings have the largest cosine to "
        "theirs."
    )
    if found.agreement is not None and found.chance is not None:
        text += (
            f" Over all samples on the map, {found.agreement:.0%} of these neighbors have the "
            f"label of their sample; {found.chance:.0%} would by chance. A red frame marks "
            "another label."
        )
    numbers = {number: place for place, number in enumerate(content.tile_numbers)}
    rows = []
    for query, neighbors in zip(found.queries, found.found, strict=True):
        tile = _tile(content, query, numbers[query], "")
        for each in neighbors:
            similarity = f"{each.similarity:.2f}"
            mark = ' class="differs"' if each.same is False else ""
            tile += _tile(content, each.number, numbers[each.number], similarity, mark)
        rows.append(f'<div class="row">{tile}</div>')
    return f'<p>{text}</p>{_scaled(content.channels)}<div class="neighbors">{"".join(rows)}</div>'


def _views(content: ReportContent) -> str:
    views = content.views
    if views is None:
        return f"<p>{escape(content.views_missing)}</p>" if content.views_missing else ""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{_image(drawn, views.zoom, name)}</td>" for drawn in row)
        + "</tr>"
        for name, row in zip(views.names, views.rows, strict=True)
    )
    text = (
        "Training images (first row) and the views that the method was given of them in the first "
        "epoch, with the normalization taken back. Every epoch draws new ones."
    )
    return (
        f'<p>{text}</p>{_scaled(views.channels)}<div class="scroll"><table class="views">'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _shown(content: ReportContent) -> str:
    return "".join(
        f"<figure>{_image(each.picture, 1.0, each.title)}"
        f"<figcaption>{escape(each.title)}</figcaption></figure>"
        for each in content.shown
    )


def _made(content: ReportContent) -> str:
    made = content.provenance
    parts = []
    if made.command:
        checkout = f"git checkout {made.commit.rstrip('+')}\n" if made.commit else ""
        parts.append(
            "<p>To get the same encoder again:</p>"
            f'<pre class="wrap">{escape(checkout + made.command)}</pre>'
        )
    if made.called and made.called != made.command:
        parts.append(f'<p class="soft">It was started as <code>{escape(made.called)}</code></p>')
    if made.commit.endswith("+"):
        parts.append('<p class="soft">The code had changes that are not in the commit.</p>')
    if made.overrides:
        lines = escape("\n".join(made.overrides))
        parts.append(f"<h3>What was changed in the recipe</h3><pre>{lines}</pre>")
    if made.recipe:
        lines = escape("\n".join(made.recipe))
        parts.append(
            f"<details><summary>The whole recipe ({escape(made.fingerprint)})</summary>"
            f"<pre>{lines}</pre></details>"
        )
    if made.environment:
        rows = [*made.environment, *([("commit", made.commit)] if made.commit else [])]
        facts = fact_list((name, text, "") for name, text in rows)
        parts.append(f"<h3>Machine and versions</h3>{facts}")
    return "".join(parts)


_SECTIONS: tuple[tuple[str, str, Callable[[ReportContent], str]], ...] = (
    ("help", "Does it help?", _help),
    ("training", "How training went", _training),
    ("map", "The map", _map),
    ("neighbors", "Nearest neighbors", _neighbors),
    ("shown", "What it gives", _shown),
    ("views", "What the method saw", _views),
    ("made", "How it was made", _made),
)


# Pieces -------------------------------------------------------------------------------------------


def _facts(facts: tuple[Fact, ...]) -> str:
    return fact_list((fact.name, fact.text, fact.url) for fact in facts)


def _navigation(sections: list[tuple[str, str]]) -> str:
    links = "".join(f'<a href="#{anchor}">{heading}</a>' for anchor, heading in sections)
    return f"<nav>{links}</nav>" if len(sections) > 1 else ""


def _scaled(channels: int) -> str:
    if channels in (0, 1, 3):
        return ""
    shown = "the first three as red, green and blue" if channels > 3 else "the first one"
    return f'<p class="note">{SCALED.format(shown=shown)}</p>'


def _legend_key(content: ReportContent, label: int) -> str:
    color = PALETTE[label % len(PALETTE)]
    shape = SHAPES[label // len(PALETTE) % len(SHAPES)]
    return (
        f'<button type="button" data-label="{label}" aria-pressed="true">'
        f'<svg width="14" height="14" fill="{color}" aria-hidden="true">{shape}</svg>'
        f"<span>{escape(_class_name(content, label))}</span></button>"
    )


def _class_name(content: ReportContent, label: int) -> str:
    return content.classes[label] if label < len(content.classes) else f"class {label}"


def _caption(content: ReportContent, number: int) -> str:
    sample = content.samples[number]
    return sample.path or f"{content.split} sample {sample.index}"


def _tile(content: ReportContent, number: int, place: int, similarity: str, mark: str = "") -> str:
    tiles = content.tiles
    assert tiles is not None
    label = content.samples[number].label
    name = "" if label is None else _class_name(content, label)
    caption = "".join(
        f'<span class="{kind}">{escape(text)}</span>'
        for kind, text in (("name", name), ("cosine", similarity))
        if text
    )
    alt = escape(", ".join(filter(None, (name, _caption(content, number)))))
    return (
        f'<div{mark}><div class="tile" role="img" aria-label="{alt}" title="{alt}">'
        f'<i style="background-position:{_position(tiles, place)}"></i></div>'
        f"<div>{caption}</div></div>"
    )


def _position(tiles: Sprite, place: int) -> str:
    """CSS percentages are of the difference between the box and the image that moves in it."""
    shares = []
    for cell, cells in zip(tiles.place(place), (tiles.columns, tiles.rows), strict=True):
        scale = cells * tiles.pitch / tiles.side
        share = cell * tiles.pitch / tiles.side / (scale - 1) if scale > 1 else 0.0
        shares.append(f"{100 * share:.4f}%")
    return " ".join(shares)


def _sprite_rules(content: ReportContent) -> str:
    rules = []
    if content.sprite is not None and content.map is not None:
        rules.append(f".thumb {{ background-image: url({content.sprite.uri}); }}")
    if (tiles := content.tiles) is not None:
        width, height = (
            100 * cells * tiles.pitch / tiles.side for cells in (tiles.columns, tiles.rows)
        )
        sharp = " image-rendering: pixelated;" if tiles.side <= 32 else ""
        rules.append(
            f".tile i {{ background-image: url({tiles.uri}); "
            f"background-size: {width:.4f}% {height:.4f}%;{sharp} }}"
        )
    return "".join(f"\n{rule}" for rule in rules)


def _image(drawn: Picture, zoom: float, alt: str) -> str:
    width, height = (round(zoom * side) for side in (drawn.width, drawn.height))
    sharp = ' class="pixelated"' if zoom > 1 else ""
    return f'<img{sharp} src="{drawn.uri}" width="{width}" height="{height}" alt="{escape(alt)}">'


def _script_data(content: ReportContent) -> dict[str, Any]:
    value: dict[str, Any] = {"charts": [data(chart) for chart in content.charts]}
    if content.map is None:
        return value
    labels = [sample.label for sample in content.samples]
    known = all(label is not None for label in labels)
    value["map"] = {
        "points": content.map.points,
        # drawn in an order that favors no class: places in the split are often sorted by it
        "order": sorted(range(len(labels)), key=lambda number: (number * 7919) % 104729),
        "labels": labels if known else None,
        "names": content.classes,
        "captions": [_caption(content, number) for number in range(len(labels))],
        "colors": PALETTE if known else PALETTE[:1],
        "sprite": _sprite_data(content.sprite),
    }
    return value


def _sprite_data(sprite: Sprite | None) -> dict[str, int] | None:
    if sprite is None:
        return None
    keys = ("side", "pitch", "columns", "rows")
    return {key: getattr(sprite, key) for key in keys}
