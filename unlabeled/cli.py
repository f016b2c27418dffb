"""The command line: reads the commands and turns errors into one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from rich.console import Console

from unlabeled.commands import datasets, judging, papers, training, using
from unlabeled.commands.app import app

__all__ = ["app", "datasets", "judging", "main", "papers", "training", "using"]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every error ends in one line and a non-zero exit status."""
    # torch's thread pool spins while it waits; beside another busy process that made a step on
    # two cores 50 times slower than sleeping does, and sleeping costs nothing that could be seen
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    complain = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    try:
        app(args=arguments, prog_name="unlabeled")  # leaves by SystemExit, usage errors included
    except Exception as error:
        if os.environ.get("UNLABELED_DEBUG"):
            raise
        sys.exit(_complain(error, complain.print))


def _complain(error: Exception, say: Callable[[str], None]) -> int:
    known = isinstance(error, ValueError | OSError | RuntimeError | ImportError | MemoryError)
    if "torch" in sys.modules:
        from unlabeled.console import explain

        text = explain(error)
    else:
        text = " ".join(str(error).split()) or type(error).__name__
    if known:
        say(f"error: {text}")
    else:
        say(
            f"internal error: {type(error).__name__}: {text} "
            "(a fault of ours: UNLABELED_DEBUG=1 shows the trace to report)"
        )
    return 130 if type(error).__name__ == "Interrupted" else 1


if __name__ == "__main__":
    main()
