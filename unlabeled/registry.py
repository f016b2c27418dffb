"""Names to recipes: the file system is the registry, a stem is a file name."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from unlabeled import catalog
from unlabeled.recipe import Recipe

PACKAGE = Path(__file__).parent


def find_recipe(name: str) -> Recipe:
    """Return the recipe that a name means: ``stem``, ``stem:preset`` or ``file.py:function``.

    A bare stem means ``stem:small``.

    Raises:
        ValueError: no such row, preset or file, or a row that is not built yet.
    """
    return load_module(name)[1]


def load_module(name: str) -> tuple[ModuleType, Recipe]:
    """Return the module that a recipe's name lies in, and the recipe."""
    place, _, preset = name.rpartition(":") if ":" in name else (name, "", "small")
    module = _from_file(Path(place)) if place.endswith(".py") else _from_stem(place)
    make = getattr(module, preset, None)
    if not callable(make):
        presets = [key for key in ("paper", "small") if callable(getattr(module, key, None))]
        raise ValueError(f"{place} has no recipe {preset!r}: it has {', '.join(presets)}")
    recipe = make()
    if not isinstance(recipe, Recipe):
        raise ValueError(f"{name} returns a {type(recipe).__name__}, not a Recipe")
    return module, recipe


def stems() -> list[str]:
    """All stems that are built, in the order of their ids in the list."""
    return [stem for stem in catalog.cards() if catalog.module_path(stem) is not None]


def _from_stem(stem: str) -> ModuleType:
    card = catalog.card(stem)
    path = catalog.module_path(stem)
    if path is None:
        raise ValueError(
            f"{stem} ({card.title}) is not built yet: `unlabeled list` shows which rows are"
        )
    parts = Path(path).resolve().relative_to(PACKAGE).with_suffix("").parts
    return importlib.import_module(".".join(("unlabeled", *parts)))


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"{path}: no such recipe file")
    # a recipe stores its parts as module:name, so the file must be importable by its stem
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(path.stem)
