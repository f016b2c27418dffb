"""Optional packages: imported where they are needed, with the command that installs them."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str, *, extra: str) -> ModuleType:
    """Return a module of an optional package.

    Args:
        module: such as ``torch_geometric.data``.
        extra: of `unlabeled` that installs it, such as ``graph``.

    Raises:
        ImportError: it is not installed; the message is the remedy.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise
        raise ImportError(
            f"this needs {package}, which is not installed: pip install 'unlabeled[{extra}]'"
        ) from error
