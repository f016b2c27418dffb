"""Rendered data: kept in the cache folder, under a name that changes with the code."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from unlabeled.data.images import cache_folder


def rendered(
    folder: str,
    key: str,
    *,
    code: Sequence[ModuleType],
    make: Callable[[], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """Return what the cache folder holds, or make it and keep it there.

    What is there but damaged is made again; another process sees the whole file or none.

    Args:
        folder: below the cache folder.
        key: all that the data depends on besides the code.
        code: modules that render: eight digits of a hash of their files end the name.
        make: renders.
    """
    files = b"".join(Path(str(module.__file__)).read_bytes() for module in code)
    name = f"{key}-{hashlib.sha256(files).hexdigest()[:8]}.safetensors"
    path = cache_folder(folder) / name
    if path.is_file():
        try:
            return load_file(path)
        except (SafetensorError, OSError):
            path.unlink(missing_ok=True)
    made = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{name}.{os.getpid()}")
    save_file(made, part)
    part.replace(path)
    return made
