"""Start-up time: import and --help, over bare python, each a process of its own, in turn."""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from _common import OWN, Check, arguments, by, measured, report

BARE = "bare python"
GOAL = 0.3
"""Seconds over bare python."""


def once(command: list[str]) -> tuple[float, float]:
    """Seconds by the clock and of processor time."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, capture_output=True, check=True, cwd=Path(__file__).parents[1])
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, used


def main() -> None:
    options = arguments(__doc__)
    python = sys.executable
    bare = [python, "-c", "pass"]
    spt = shutil.which("spt", path=str(Path(python).parent))
    rows = {
        "import": {
            OWN: [python, "-c", "import unlabeled"],
            "stable-pretraining": [python, "-c", "import stable_pretraining"],
            "lightly": [python, "-c", "import lightly"],
            BARE: bare,
        },
        "the command's --help": {
            OWN: [python, "-m", "unlabeled", "--help"],
            "stable-pretraining": [spt, "--help"] if spt else [],
            BARE: bare,
        },
        "the command's list": {OWN: [python, "-m", "unlabeled", "list"], BARE: bare},
    }
    for work, commands in rows.items():
        times: dict[str, list[tuple[float, float]]] = {}
        absent: dict[str, str] = {}
        for name, command in commands.items():
            try:
                if not command:
                    raise FileNotFoundError
                once(command)
                times[name] = []
            except (subprocess.CalledProcessError, FileNotFoundError):
                if name in (OWN, BARE):
                    raise
                absent[name] = "not installed, or no such command"
        for _ in range(options.rounds or (2 if options.quick else 7)):
            for name in times:
                times[name].append(once(commands[name]))
        runs = measured(times)
        runs.absent = absent
        part = by() == "cpu"
        middle = {k: statistics.median(pair[part] for pair in v) for k, v in times.items()}
        report(
            f"start, {work}",
            runs,
            peers=[name for name in commands if name not in (OWN, BARE)],
            checks=[
                Check(
                    "seconds over bare python",
                    middle[OWN] - middle[BARE],
                    most=None if work.endswith("list") else GOAL,
                )
            ],
        )


if __name__ == "__main__":
    main()
