"""What this machine has, for `unlabeled doctor` and for bug reports."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

_OPTIONAL = {
    "pyarrow": "Parquet files: pip install 'unlabeled[table]'",
    "datasets": "Hugging Face data sets: pip install 'unlabeled[hf]'",
    "onnx": "ONNX export: pip install 'unlabeled[onnx]'",
    "tifffile": "TIFF files of more than four channels: pip install tifffile",
}


def examine() -> list[dict[str, Any]]:
    """Return one row a check: what, ok, says."""
    from unlabeled.artifacts import environment
    from unlabeled.data import known
    from unlabeled.plan import resolve_precision

    facts = environment()
    versions = ", ".join(f"{name} {value}" for name, value in facts["versions"].items() if value)
    precision = resolve_precision("auto")
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    rows = [
        _row("versions", True, f"Python {facts['python']}, {versions}"),
        _row("processor", True, f"{facts['processor']}, {facts['cores']} cores"),
        _row("memory", _memory() > 4, f"{_memory():.0f} GiB"),
        _row("disk", free > 5, f"{free:.0f} GiB free here"),
        _row(
            "GPU",
            facts["device"] != "cpu",
            facts["device"]
            if facts["device"] != "cpu"
            else "none: small recipes take minutes here",
        ),
        _row(
            "bf16",
            precision == "bf16-mixed",
            "native: precision auto means bf16-mixed, about twice as fast"
            if precision == "bf16-mixed"
            else "not native: precision auto means 32-true",
        ),
    ]
    rows += [
        _row(name, found, use if not found else "installed")
        for name, use in _OPTIONAL.items()
        for found in [importlib.util.find_spec(name) is not None]
    ]
    rows += [
        _row(f"data {each.name}", bool(each.found), each.found or each.remedy) for each in known()
    ]
    return rows


def _row(what: str, ok: bool, says: str) -> dict[str, Any]:
    return {"what": what, "ok": ok, "says": says}


def _memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
