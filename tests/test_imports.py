"""The arrows of the house: who may import whom, and what importing costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "unlabeled"
LOWER = ("engine", "method", "schedule", "recipe", "nn", "losses", "ops", "views", "evaluators")
HEAVY = (
    "torch",
    "lightning",
    "timm",
    "torchvision",
    "transformers",
    "torch_geometric",
    "sklearn",
    "numba",
)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def files(room: str) -> list[Path]:
    place = PACKAGE / room
    return sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


@pytest.mark.parametrize("room", LOWER)
def test_the_lower_rooms_never_import_methods(room):
    assert files(room)
    for path in files(room):
        for name in imports(path):
            assert not name.startswith(("unlabeled.methods", "unlabeled.studies")), path


@pytest.mark.parametrize("room", ["losses", "ops"])
def test_losses_and_ops_are_functions_without_modules(room):
    for path in files(room):
        classes = [
            node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)
        ]
        assert not [c.name for c in classes if "nn.Module" in map(ast.unparse, c.bases)], path


def test_ranks_are_known_in_one_place():
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).as_posix() != "ops/gather.py":
            assert "torch.distributed" not in imports(path), path


def test_the_engine_names_no_method_data_set_or_modality():
    text = (PACKAGE / "engine.py").read_text().lower()
    for word in ("simclr", "moco", "byol", "image", "text ", "speech", "graph", "mnist", "pixel"):
        assert word not in text, word


@pytest.mark.parametrize("code", ["import unlabeled", "import unlabeled.cli, unlabeled.catalog"])
def test_importing_loads_nothing_heavy(code):
    check = f"{code}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_importing_torch_free_modules_writes_nothing(tmp_path):
    subprocess.run([sys.executable, "-c", "import unlabeled"], cwd=tmp_path, check=True)
    assert not list(tmp_path.iterdir())
