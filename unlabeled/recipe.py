"""Recipe: a complete, readable description of a training run, with a canonical text."""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from functools import partial
from typing import Any

from unlabeled.data.source import DataSource
from unlabeled.encoders.encoder import Encoder
from unlabeled.method import Method
from unlabeled.schedule import Schedule, constant


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What the parameters that it matches get; the first rule that matches a parameter counts.

    Args:
        name: a shell pattern on the parameter's name in the method, such as ``predictor.*``.
        one_dim: match only 1-d parameters (biases, norm scales) or, if False, only the others.
        lr_scale: multiplies the learning rate.
        lr: a schedule of its own, in the units of ``Optim.lr``.
        decay: whether weight decay applies.
        adapt: whether layer-wise adaptation (LARS, LARC) applies.
    """

    name: str = "*"
    one_dim: bool | None = None
    lr_scale: float = 1.0
    lr: Schedule | None = None
    decay: bool = True
    adapt: bool = True


PLAIN_1D = Rule(one_dim=True, decay=False, adapt=False)
"""Biases and norm parameters get neither weight decay nor layer-wise adaptation."""


NO_DECAY = constant(0.0)


@dataclass(frozen=True, kw_only=True)
class Optim:
    """An optimizer, its schedules, and who is treated differently.

    ``lr`` is stated per ``lr_per`` samples of the global batch: the rate in use is
    ``lr(clock) * batch_size / lr_per``; with ``lr_per=None`` the rate is the schedule itself.
    ``kind`` builds the optimizer from parameter groups: ``partial(torch.optim.SGD, momentum=0.9)``.
    """

    kind: Callable[..., Any]
    lr: Schedule
    lr_per: int | None = 256
    weight_decay: Schedule = NO_DECAY
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that makes a run: plain values, dataclasses, partials and named callables.

    ``batch_size`` is global: over ranks and accumulated micro-batches. ``optim`` is one, or one a
    turn of the method. ``steps``, if given, ends the run before ``epochs`` do.
    """

    method: Callable[[Encoder], Method]
    encoder: Callable[[Any], Encoder]
    data: DataSource
    views: Any
    optim: Optim | Mapping[str, Optim]
    epochs: float
    batch_size: int
    evaluate: tuple[Any, ...] = ()
    precision: str = "32-true"
    accumulate: int = 1
    clip: float | None = None
    sync_batchnorm: bool = True
    steps: int | None = None
    seed: int = 0

    def fitted(self) -> Recipe:
        """The recipe with its views fitted to the data's facts, and the data to the views' size.

        A method whose ``samples`` is None gets the number of training samples.
        """
        views = self.views.fit(self.data.spec())
        method = self._counted()
        return replace(self, views=views, data=self.data.fit(views.spec), method=method)

    def build(self) -> Method:
        """Build the method with its encoder; under ``torch.device("meta")`` this costs nothing."""
        return self._counted()(self.encoder(self.views.fit(self.data.spec()).spec))

    def _counted(self) -> Callable[[Encoder], Method]:
        method = self.method
        if isinstance(method, partial) and method.keywords.get("samples", 0) is None:
            return partial(method.func, **{**method.keywords, "samples": self.data.size("train")})
        return method


@dataclass(frozen=True, kw_only=True)
class Study:
    """A paper that compares rather than trains: its recipes, judged alike, in one table.

    Args:
        recipes: what is compared, by name.
        evaluators: names of protocols ("knn", "linear"), evaluators with settings, or names of
            label-free scores ("effective_rank").
        report: from the scores, ``{evaluator: {recipe: [one value a seed]}}``, to sentences: what
            the paper claims, and whether these figures show it.
    """

    recipes: Mapping[str, Recipe]
    evaluators: tuple[Any, ...]
    report: Callable[[Mapping[str, Mapping[str, Sequence[float]]]], list[str]]


# Canonical text ----------------------------------------------------------------------------------


def describe(value: Any) -> Any:
    """Return the JSON form of a recipe or of any value in one.

    Dataclasses and partials become ``{"make" | "partial": "module:name", "options": {...}}``,
    named callables ``{"name": "module:name"}``.

    Raises:
        TypeError: a lambda, a local function or any other value without a canonical text.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [describe(item) for item in value]
    if isinstance(value, Mapping):
        return {"map": {str(key): describe(item) for key, item in value.items()}}
    if isinstance(value, partial):
        if value.args:
            raise TypeError(f"{value}: give a recipe's arguments by name, not by position")
        options = {key: describe(item) for key, item in sorted(_bound(value).items())}
        return {"partial": _address(value.func), "options": options}
    if is_dataclass(value) and not isinstance(value, type):
        options = {item.name: describe(getattr(value, item.name)) for item in fields(value)}
        return {"make": _address(type(value)), "options": options}
    if callable(value):
        return {"name": _address(value)}
    raise TypeError(f"a recipe cannot hold {value!r}: use plain values, dataclasses or partials")


SHAPES = (
    "_constant",
    "_linear",
    "_cosine",
    "_exponential",
    "_inverse_decay",
    "_stairs",
    "_steps",
    "_warm_linear",
)
"""Schedules, which are shown on one line."""


def field_lines(options: dict[str, Any], prefix: str = "") -> list[str]:
    """A recipe's fields as the lines ``dotted.key = value``, as overrides name them."""
    lines = []
    for key, value in options.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, dict) and ("options" in value or "map" in value):
            kind = str(value.get("make") or value.get("partial") or "").rpartition(":")[2]
            inner = value.get("options") or value.get("map") or {}
            if kind in SHAPES:
                given = ", ".join(f"{k}={v}" for k, v in inner.items())
                lines.append(f"  {dotted} = {kind[1:]}({given})")
            else:
                lines.append(f"  {dotted} = {kind}")
                lines += field_lines(inner, f"{dotted}.")
        elif isinstance(value, dict):
            lines.append(f"  {dotted} = {value['name'].rpartition(':')[2]}")
        else:
            lines.append(f"  {dotted} = {_short(value)}")
    return lines


def _short(value: Any) -> str:
    """A described value on one line: ``[Rule(name=*, decay=False)]``."""
    if isinstance(value, list):
        return f"[{', '.join(map(_short, value))}]"
    if not isinstance(value, dict):
        return str(value)
    if "name" in value:
        return str(value["name"]).rpartition(":")[2]
    kind = str(value.get("make") or value.get("partial") or "").rpartition(":")[2]
    inner = value.get("options") or value.get("map") or {}
    return f"{kind}({', '.join(f'{key}={_short(item)}' for key, item in inner.items())})"


def _bound(value: partial[Any]) -> dict[str, Any]:
    """The keywords of a partial with the defaults of its function filled in.

    A stored run or encoder must mean the same after a default has changed. Defaults of torch's
    optimizers are left out: they come and go with its versions.
    """
    if value.func.__module__.partition(".")[0] == "torch":
        return value.keywords
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(value.func).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty
    }
    return defaults | value.keywords


def rebuild(description: Any) -> Any:
    """Invert `describe`; lists come back as tuples."""
    if isinstance(description, list):
        return tuple(rebuild(item) for item in description)
    if not isinstance(description, dict):
        return description
    if "map" in description:
        return {key: rebuild(item) for key, item in description["map"].items()}
    if "name" in description:
        return _find(description["name"])
    options = {key: rebuild(item) for key, item in description["options"].items()}
    if "partial" in description:
        return partial(_find(description["partial"]), **options)
    return _find(description["make"])(**options)


def fingerprint(recipe: Recipe | Study) -> str:
    """Return 16 hex digits that change when any value of the recipe or study does."""
    text = json.dumps(describe(recipe), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _address(thing: Any) -> str:
    name = getattr(thing, "__qualname__", "")
    if not name or "<" in name:
        raise TypeError(f"{thing!r} has no name that a recipe can store: define it in a module")
    return f"{thing.__module__}:{name}"


def _find(address: str) -> Any:
    module, _, name = address.partition(":")
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


# Overrides ---------------------------------------------------------------------------------------


def override(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe with fields replaced: ``{"method.temperature": 0.2, "epochs": 10}``.

    Values that are text are read as Python literals where they are one.

    Raises:
        ValueError: no such field; the message lists the nearest names.
    """
    for key, value in changes.items():
        recipe = _replace(recipe, key.split("."), _literal(value), key)
    return recipe


def _literal(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def _replace(holder: Any, path: list[str], value: Any, key: str) -> Any:
    name, rest = path[0], path[1:]
    if isinstance(holder, partial):
        known = {
            parameter.name
            for parameter in inspect.signature(holder.func).parameters.values()
            if parameter.kind is parameter.KEYWORD_ONLY
        } | set(holder.keywords)
        current = holder.keywords.get(name)
    elif isinstance(holder, Mapping):
        known, current = set(holder), holder.get(name)
    elif is_dataclass(holder) and not isinstance(holder, type):
        known = {item.name for item in fields(holder)}
        current = getattr(holder, name, None)
    else:
        raise ValueError(f"{key}: {holder!r} has no fields to override")
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else ""
        raise ValueError(f"{key}: no field {name!r} {hint} (there are {', '.join(sorted(known))})")
    if rest:
        value = _replace(current, rest, value, key)
    elif callable(current) and isinstance(value, int | float) and not isinstance(value, bool):
        value = _rescaled(current, float(value))  # optim.lr=0.1 keeps the schedule's shape
    if isinstance(holder, partial):
        return partial(holder.func, **{**holder.keywords, name: value})
    if isinstance(holder, Mapping):
        return {**holder, name: value}
    return replace(holder, **{name: value})


def _rescaled(schedule: Any, value: float) -> Any:
    if not isinstance(schedule, partial):
        return constant(value)
    if "value" in schedule.keywords:
        return constant(value)
    if "values" in schedule.keywords:  # the highest stair becomes the value
        stairs = schedule.keywords["values"]
        top = max(stairs) or 1.0
        scaled = tuple(value * stair / top for stair in stairs)
        return partial(schedule.func, **{**schedule.keywords, "values": scaled})
    start = schedule.keywords["start"]
    scale = value / start if start else 1.0
    keywords: dict[str, Any] = {**schedule.keywords, "start": value}
    for name in ("end", "warmup_from"):
        if name in keywords:
            keywords[name] *= scale
    return partial(schedule.func, **keywords)
