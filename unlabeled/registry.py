"""Names to recipes: the file system is the registry, a stem is a file name."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from unlabeled import catalog
from unlabeled.recipe import Recipe, Study

PACKAGE = Path(__file__).parent


def find_recipe(name: str) -> Recipe:
    """Return the recipe that a name means.

    ``stem``, ``stem:preset``, ``file.py:function``, or ``stem:preset/name`` for one recipe of a
    study. A bare stem means ``stem:small``.

    Raises:
        ValueError: no such row, preset or file, a row that is not built yet, or a whole study.
    """
    found = load_module(name)[1]
    if isinstance(found, Study):
        first = next(iter(found.recipes))
        raise ValueError(
            f"{name} is a study of {len(found.recipes)} recipes: `unlabeled bench {name}` runs "
            f"it; name one of them to train it alone, such as {_full(name)}/{first} "
            f"(there are {', '.join(found.recipes)})"
        )
    return found


def load_module(name: str) -> tuple[ModuleType, Recipe | Study]:
    """Return the module that a name lies in, and the recipe or study that it means."""
    place, _, preset = _full(name).rpartition(":")
    preset, _, member = preset.partition("/")
    module = _from_file(Path(place)) if place.endswith(".py") else _from_stem(place)
    if not hasattr(module, preset) and (PACKAGE / "presets" / f"{place}.py").is_file():
        module = importlib.import_module(f"unlabeled.presets.{place}")
    make = getattr(module, preset, None)
    if not callable(make):
        presets = [key for key in ("paper", "small") if callable(getattr(module, key, None))]
        raise ValueError(f"{place} has no recipe {preset!r}: it has {', '.join(presets)}")
    found = make()
    if isinstance(found, Study) and member:
        if member not in found.recipes:
            known = ", ".join(found.recipes)
            raise ValueError(f"{place}:{preset} has no recipe {member!r}: it has {known}")
        return module, found.recipes[member]
    if not isinstance(found, Recipe | Study) or member:
        raise ValueError(f"{name} returns a {type(found).__name__}, not a Recipe")
    return module, found


def stems() -> list[str]:
    """All stems that train something, in the order of their ids in the list."""
    return [stem for stem in _built() if not _is_study(stem)]


def studies() -> list[str]:
    """All stems that compare recipes, in the order of their ids in the list."""
    return [stem for stem in _built() if _is_study(stem)]


def _built() -> list[str]:
    return [stem for stem in catalog.cards() if catalog.module_path(stem) is not None]


def _is_study(stem: str) -> bool:
    path = catalog.module_path(stem)
    return path is not None and path.parent.name == "studies"


def _full(name: str) -> str:
    return name if ":" in name else f"{name}:small"


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
