"""Files of Debian packages, unpacked without root and without touching the system."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path


def unpack(packages: Sequence[str], work: Path) -> Path:
    """Download packages with apt and return the folder with their files, below ``work``.

    Raises:
        RuntimeError: apt-get or dpkg failed; the message ends with its last line.
    """
    own = []  # apt's options
    try:
        _call(["apt-get", "download", *packages], work)
    except RuntimeError:
        # lists of our own: updating the system's would need root
        for folder in ("lists/partial", "cache/archives/partial"):
            (work / folder).mkdir(parents=True)
        own = ["-o", f"Dir::State::lists={work / 'lists'}", "-o", f"Dir::Cache={work / 'cache'}"]
        _call(["apt-get", *own, "update"], work)
        _call(["apt-get", *own, "download", *packages], work)
    for package in sorted(work.glob("*.deb")):
        _call(["dpkg", "-x", str(package), str(work / "unpacked")], work)
    return work / "unpacked"


def _call(command: list[str], work: Path) -> None:
    done = subprocess.run(
        command, cwd=work, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{' '.join(command)} failed: {last}")
