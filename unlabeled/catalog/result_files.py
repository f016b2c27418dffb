"""The results: what ``unlabeled bench`` measured, one JSON file a recipe.

The shape of `results/<stem>.<preset>.json`::

    {"stem": "simclr", "preset": "small",
     "fingerprint": "0123456789abcdef",          # of the recipe, see unlabeled.recipe.fingerprint
     "sources": {"unlabeled/methods/image/simclr.py": "<sha256>"},    # see source_hashes
     "commit": "<git hash>", "versions": {"torch": "2.11.0"}, "device": "2 x Xeon, bf16",
     "data": "fashion-mnist", "encoder": "resnet18 small stem", "epochs": 20,
     "seeds": [0, 1, 2], "seconds": [301.5, 299.0, 300.2],            # one a seed
     "scores": {"knn": {"encoder": [84.1, 84.3, 83.9],                # one a seed
                        "random": [76.0, 75.8, 76.3],                 # floors: one a seed, or one
                        "raw": [81.0]}},
     "protocols": {"knn": {"id": "knn-cosine-k20-T0.07", "metric": "top-1", "unit": "%",
                           "higher_is_better": true}}}

``scores`` holds an entry an evaluator, in the order of the recipe, each with a protocol of the
same name, whose further keys (grids, sample counts) are kept as they are. A branch is ``encoder``
(what the recipe trained) or one of the floors; ``random`` is the same encoder with random weights.
The main score is ``knn`` where there is one, else the first. A study has a branch a recipe in place
of ``encoder``, and may hold ``report``: sentences on what the figures show.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from unlabeled.catalog.card_files import card

RESULTS = Path(__file__).parent / "results"
PACKAGE = Path(__file__).parents[1]
FLOORS = ("random", "raw")


@dataclass(frozen=True, kw_only=True)
class Result:
    """One results file; the fields are the keys that the module's page shows."""

    stem: str
    preset: str
    fingerprint: str
    sources: dict[str, str]
    commit: str
    versions: dict[str, str]
    device: str
    data: str
    encoder: str
    epochs: int | float
    seeds: list[int]
    seconds: list[float]
    scores: dict[str, dict[str, list[float]]]
    protocols: dict[str, dict[str, Any]]
    report: list[str] = field(default_factory=list)

    @property
    def trained(self) -> list[str]:
        """The branches that were trained: ``encoder``, or a study's recipes; no floors."""
        return [branch for branch in self.scores[self.main] if branch not in FLOORS]

    @property
    def main(self) -> str:
        """The name of the score that decides whether the recipe learns."""
        return "knn" if "knn" in self.scores else next(iter(self.scores))

    def mean(self, score: str, branch: str) -> float:
        """Mean over the seeds."""
        return mean(self.scores[score][branch])

    def spread(self, score: str, branch: str) -> float:
        """Sample standard deviation over the seeds; 0 for a single one."""
        values = self.scores[score][branch]
        return stdev(values) if len(values) > 1 else 0.0

    def learns(self) -> bool:
        """Whether the main score beats the random encoder by more than either spread.

        True for a study without that floor.
        """
        if not {"random", "encoder"} <= set(self.scores[self.main]):
            return True
        gain = self.mean(self.main, "encoder") - self.mean(self.main, "random")
        if not self.protocols[self.main]["higher_is_better"]:
            gain = -gain
        return gain > max(self.spread(self.main, branch) for branch in ("encoder", "random"))


def results(stem: str, *, folder: Path = RESULTS) -> dict[str, Result]:
    """Return the results of a stem by preset: ``small`` first, then in the order of the names.

    Raises:
        ValueError: a file is not valid JSON or not of this shape; the message names it.
    """
    found = {}
    for path in sorted(folder.glob(f"{stem}.*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: not valid JSON: {error}") from error
        result = _check(content, path)
        found[result.preset] = result
    return dict(sorted(found.items(), key=lambda item: (item[0] != "small", item[0])))


def write_result(path: Path, content: Mapping[str, Any]) -> None:
    """Check a result and write it to ``<stem>.<preset>.json``, wholly or not at all.

    Raises:
        ValueError: the content is not of the shape above; nothing is written.
    """
    _check(dict(content), path)
    try:
        text = json.dumps(dict(content), indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: no JSON can hold this result: {error}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        # mkstemp makes files that only their owner may read
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def source_hashes(paths: Iterable[Path], *, package: Path = PACKAGE) -> dict[str, str]:
    """Return the sha256 of files of the package, by their path from the package's parent."""
    return {
        path.resolve().relative_to(package.resolve().parent).as_posix(): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in paths
    }


def _check(content: Any, path: Path) -> Result:
    def fail(message: str) -> ValueError:
        return ValueError(f"{path}: {message}: measure it again with `unlabeled bench`")

    if not isinstance(content, dict):
        raise fail(f"a result is a JSON object, not {type(content).__name__}")
    for key, (fits, wanted) in _SHAPE.items():
        if key not in content:
            raise fail(f"it lacks {key!r}")
        if not fits(content[key]):
            raise fail(f"{key} must be {wanted}, not {content[key]!r}")
    if unknown := sorted(set(content) - set(_SHAPE) - {"report"}):
        raise fail(f"it has unknown keys {', '.join(unknown)}")
    result = Result(**content)
    if path.name != f"{result.stem}.{result.preset}.json":
        raise fail(f"it holds {result.stem}.{result.preset}")
    if not isinstance(result.report, list) or not all(map(_text, result.report)):
        raise fail("report must be a list of texts")
    runs = len(result.seeds)
    trains = card(result.stem).kind in ("method", "recipe")
    if len(result.seconds) != runs:
        raise fail(f"it has {runs} seeds and {len(result.seconds)} seconds")
    for score, branches in result.scores.items():
        if not all(key in result.protocols.get(score, {}) for key in _PROTOCOL):
            raise fail(f"protocols.{score} must hold {', '.join(_PROTOCOL)}")
        if trains and len(branches.get("encoder", ())) != runs:
            raise fail(f"scores.{score}.encoder must hold one value for each of {runs} seeds")
        for branch, values in branches.items():
            if len(values) not in (1, runs):
                raise fail(f"scores.{score}.{branch} has {len(values)} values for {runs} seeds")
    if trains and "random" not in result.scores[result.main]:
        raise fail(f"scores.{result.main} lacks its floor 'random'")
    return result


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _list(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) > 0 and all(map(fits, value))


def _map(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, dict) and len(value) > 0 and all(map(fits, value.values()))
    )


_PROTOCOL = ("id", "metric", "unit", "higher_is_better")
_SHAPE: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        ("stem", "preset", "fingerprint", "commit", "device", "data", "encoder"),
        (_text, "a text"),
    ),
    "epochs": (_number, "a finite number"),
    "seeds": (_list(_integer), "a list of whole numbers"),
    "seconds": (_list(_number), "a list of finite numbers"),
    "sources": (_map(_text), "a map from file to sha256"),
    "versions": (_map(_text), "a map from library to version"),
    "scores": (
        _map(_map(_list(_number))),
        "a map from evaluator to branch to a list of finite numbers",
    ),
    "protocols": (_map(lambda value: isinstance(value, dict)), "a map from evaluator to options"),
}
