"""Time from nothing to the first training batch of a folder with very many files, and the memory.

usage: python benchmarks/first_batch.py [FILES] [FOLDER]

Makes FILES (default 1,000,000) entries, hard links to a few small JPEGs in 1,000 class folders
below FOLDER (default: a temporary one, kept for the next run), and starts ``unlabeled pretrain
simclr`` on it in a fresh process. One line comes out: seconds to the first batch and the peak of
the resident memory, with their goals, and both at each stage.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _common import OWN, Check, measured, report

LINKS = 50_000  # of one file; ext4 allows 65,000

CHILD = """
import json, resource, sys, time
started = time.perf_counter()
def facts():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status") if line[:2] == "Vm")
    mib = lambda key: int(lines[key].split()[0]) // 1024
    return {"seconds": round(time.perf_counter() - started, 1), "mib": mib("VmRSS"),
            "peak_mib": mib("VmHWM")}
import torch
from lightning import Callback
from unlabeled import pretrain
from unlabeled.data import open_data
found = {"imported": facts()}
source = open_data(sys.argv[1])
files = source.size("train")
found["listed"] = facts()
source.spec()
found["measured"] = facts()
class First(Callback):
    def on_train_batch_start(self, *_):
        found.setdefault("first batch", facts())
    def on_train_batch_end(self, *_):
        found.setdefault("first step", facts())
with __import__("tempfile").TemporaryDirectory() as out:
    pretrain("simclr:small", data=source, out=f"{out}/run", callbacks=[First()],
             overrides={"steps": 2}, logger=False)
print(json.dumps({"files": files, **found}))
"""


def make(root: Path, files: int) -> float:
    """Make the tree where it is not whole yet; return the seconds it took."""
    import numpy as np
    from PIL import Image

    started, random = time.perf_counter(), np.random.default_rng(0)
    done = root / f"{files}.made"
    if done.exists():
        return 0.0
    pictures = root / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    folders = min(1000, max(2, files // 50))
    for place in range(-(-files // LINKS)):
        coarse = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((160, 120)).save(pictures / f"{place}.jpg", quality=85)
    for number in range(files):
        folder = root / f"data{files}" / f"class{number % folders:04d}"
        if number < folders:
            folder.mkdir(parents=True, exist_ok=True)
        source = pictures / f"{number // LINKS}.jpg"
        try:
            os.link(source, folder / f"image{number:07d}.jpg")
        except FileExistsError:
            continue
    done.touch()
    return time.perf_counter() - started


def measure(folder: Path) -> dict[str, object]:
    """Open, measure and train two steps in a fresh process."""
    import json

    found = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)], capture_output=True, text=True, check=False
    )
    if found.returncode:
        raise RuntimeError(found.stderr[-2000:])
    return json.loads(found.stdout.strip().splitlines()[-1])


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    default = Path(tempfile.gettempdir()) / "unlabeled-first-batch"
    root = Path(sys.argv[2]) if len(sys.argv) > 2 else default
    made = make(root, files)
    facts = measure(root / f"data{files}")
    stages = {name: value for name, value in facts.items() if isinstance(value, dict)}
    text = ", ".join(
        f"{name} {value['seconds']} s {value['mib']} MiB (peak {value['peak_mib']})"
        for name, value in stages.items()
    )
    first = stages["first batch"]
    report(
        f"time to the first batch, {facts['files']:,} training files of {files:,}",
        measured({OWN: [(first["seconds"], first["seconds"])]}),
        checks=(
            Check("seconds", first["seconds"], most=60),
            Check("peak MiB", stages["first step"]["peak_mib"], most=4096),
        ),
        note=f"{text}; tree made in {made:.0f} s",
    )


if __name__ == "__main__":
    main()
