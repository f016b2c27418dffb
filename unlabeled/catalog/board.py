"""The board: all rows that were measured alike, in one table; and the tables of the studies."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from unlabeled.catalog.card_files import cards
from unlabeled.catalog.render import line, study_table
from unlabeled.catalog.result_files import FLOORS, RESULTS, Result, results

CEILING = "board/supervised.json"
GPU = "board/resnet18.json"
HEAD = "<!-- rendered by `python -m unlabeled.catalog --render`: do not edit -->\n\n"


def render_board(*, folder: Path = RESULTS) -> str:
    """Return docs/board.md: one table of the rows with the same data, encoder, epochs, protocols.

    The rows are those of the most common setting among the small recipes, sorted by kNN; what was
    measured otherwise is named below the table and stands in the README's.
    """
    small = {
        stem: found["small"]
        for stem in cards()
        if "small" in (found := results(stem, folder=folder)) and "encoder" in _main(found["small"])
    }
    if not small:
        return f"{HEAD}# The board\n\nNothing has been measured yet.\n"
    setting = Counter(map(_setting, small.values())).most_common(1)[0][0]
    same = {stem: result for stem, result in small.items() if _setting(result) == setting}
    others = [cards()[stem].name for stem in small if stem not in same]
    first = next(iter(same.values()))
    columns = ["knn", "linear"]
    ranked = sorted(same, key=lambda stem: same[stem].mean("knn", "encoder"), reverse=True)
    lines = [
        line(("method", "kNN top-1 %", "linear top-1 %", "kNN above random", "seconds a seed")),
        line(["---"] * 5),
    ]
    for stem in ranked:
        result = same[stem]
        gain = result.mean("knn", "encoder") - result.mean("knn", "random")
        figures = [_figure(result.scores[score]["encoder"]) for score in columns]
        seconds = f"{mean(result.seconds):.0f}"
        lines.append(line((cards()[stem].name, *figures, f"{gain:+.1f}", seconds)))
    for floor in FLOORS:
        if all(floor in first.scores[score] for score in columns):
            figures = [_figure(first.scores[score][floor]) for score in columns]
            lines.append(line((f"*{_FLOOR[floor]}*", *figures, "", "")))
    lines += _ceiling(folder / CEILING, first)
    devices = sorted({result.device for result in same.values()})
    text = [
        f"{HEAD}# The board",
        "",
        f"All rows: {first.data}, encoder {first.encoder}, {first.epochs:g} epochs, "
        f"{len(first.seeds)} seeds (mean ± sample standard deviation), frozen features, kNN with "
        f"{first.protocols['knn']['k']} neighbors and a linear probe chosen inside train; the test "
        "split is read once. Measured by `unlabeled bench STEM --seeds 3` "
        f"on {' and '.join(devices)}. Commits and settings: unlabeled/catalog/results/.",
        "",
        "These are runs of minutes with one shared setting, which was chosen for SimCLR: they "
        "show that each method learns, and do not rank the methods of the papers. Differences "
        "within the spreads mean nothing.",
        "",
        *lines,
    ]
    text += _gpu(folder / GPU)
    if others:
        text += ["", f"Measured on other data or another encoder: {', '.join(others)}."]
    return "\n".join(text) + "\n"


def render_studies(*, folder: Path = RESULTS) -> str:
    """Return docs/studies.md: the table of each study that was run."""
    parts = [f"{HEAD}# Studies\n\nPapers that compare rather than train: `unlabeled bench STEM`."]
    for stem, one in cards().items():
        for preset, result in results(stem, folder=folder).items():
            if "encoder" not in _main(result):
                parts.append(
                    f"## {one.name} (`{stem}:{preset}`)\n\n{one.summary}\n\n"
                    f"{result.data}, {result.encoder}, {result.epochs:g} epochs, "
                    f"{len(result.seeds)} seeds, {result.device}.\n\n{study_table(result)}"
                )
    return "\n\n".join(parts) + "\n"


_FLOOR = {"random": "random weights", "raw": "raw pixels"}


def _gpu(path: Path) -> list[str]:
    """The table that `scripts/board.py` measured on a GPU, or nothing."""
    if not path.is_file():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    runs: dict[str, list[dict[str, Any]]] = {
        stem: list(seeds.values()) for stem, seeds in found["runs"].items()
    }
    scores = {
        stem: {kind: [seed[stem][kind] for seed in seeds] for kind in ("knn", "linear")}
        for stem, seeds in runs.items()
    }
    floors = next(seeds for seeds in runs.values() if "random weights" in seeds[0])
    counts = sorted({len(seeds) for seeds in runs.values()})
    lines = [
        line(("method", "kNN top-1 %", "linear top-1 %", "seconds a seed")),
        line(["---"] * 4),
    ]
    for stem in sorted(scores, key=lambda stem: mean(scores[stem]["knn"]), reverse=True):
        seconds = f"{mean(seed['seconds'] for seed in runs[stem]):.0f}"
        figures = [_figure(scores[stem][kind]) for kind in ("knn", "linear")]
        lines.append(line((cards()[stem].name, *figures, seconds)))
    for name, label in (("random weights", "random weights"), ("raw input", "raw pixels")):
        figures = [_figure(seed[name][kind] for seed in floors) for kind in ("knn", "linear")]
        lines.append(line((f"*{label}*", *figures, "")))
    return [
        "",
        "## On one GPU",
        "",
        f"{found['data']}, {found['encoder']}, {found['epochs']:g} epochs, "
        f"{' to '.join(map(str, counts))} seeds, {found['device']} (so seconds are not those of a "
        f"run alone), commit {found['commit']}: `python scripts/board.py`. Few images and a "
        "wide network, the other end from the table above; settings other than these are each "
        "row's small(), which were chosen for the small network. The test split is read once.",
        "",
        *lines,
    ]


def _main(result: Result) -> dict[str, list[float]]:
    return result.scores[result.main]


def _setting(result: Result) -> tuple[Any, ...]:
    protocols = tuple(sorted(protocol["id"] for protocol in result.protocols.values()))
    return result.data, result.encoder, result.epochs, len(result.seeds), protocols


def _figure(values: Iterable[float]) -> str:
    listed = list(values)
    return f"{mean(listed):.1f} ± {stdev(listed):.1f}" if len(listed) > 1 else f"{listed[0]:.1f}"


def _ceiling(path: Path, like: Result) -> list[str]:
    if not path.is_file():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    if (found["data"], found["encoder"]) != (like.data, like.encoder):
        return []
    figures = [_figure(found["scores"][score]) for score in ("knn", "linear")]
    direct = _figure(found["scores"]["supervised"])
    return [line((f"*supervised, all labels (end to end {direct})*", *figures, "", ""))]
