"""The board of one GPU: all image rows with a ResNet-18 (small stem) on 2,000 Fashion-MNIST images.

The setting of someone with a folder of a few thousand images and one GPU: 200 images a class,
without labels, 100 epochs; then kNN and a linear probe on the labels of these 2,000, judged on the
whole test split. Runs of several rows share the GPU, so seconds are not those of a row alone. All
rows of a seed come before the next seed, and what is finished when the time is over is written:

    python scripts/board.py --out unlabeled/catalog/results/board/resnet18.json --minutes 60

`python -m unlabeled.catalog --render` shows it in docs/board.md.
"""

from __future__ import annotations

import argparse
import os
import queue
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

STEMS = (
    "simclr", "moco_v2", "barlow_twins", "byol", "swav", "simsiam", "moco_v3", "moco",
    "debiased_cl", "mochi", "eqco", "adpclr", "un_mix", "looc", "yadim",
)  # fmt: skip
ENCODER, LABELED = "timm/resnet18", 200 / 6000
Job = tuple[str, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=100)
    parser.add_argument("--stems", default=",".join(STEMS))
    parser.add_argument("--commit", default="", help="where this is no checkout")
    options = parser.parse_args()
    until = time.time() + 60 * options.minutes
    context = mp.get_context("spawn")
    jobs, found = context.Queue(), context.Queue()
    stems = options.stems.split(",")
    for seed in range(options.seeds):
        for stem in stems:
            jobs.put((stem, seed))
    workers = [
        context.Process(target=work, args=(jobs, found, options.epochs, until, stems[0]))
        for _ in range(options.workers)
    ]
    for worker in workers:
        worker.start()
    table: dict[str, Any] = {}
    left = options.seeds * len(stems)
    while left and time.time() < until and any(worker.is_alive() for worker in workers):
        try:
            stem, seed, result = found.get(timeout=1.0)
        except queue.Empty:
            continue
        left -= 1
        print(f"{stem} seed {seed}: {result}", flush=True)
        if "failed" not in result:
            table.setdefault(stem, {})[str(seed)] = result
        write(options, table)
    for worker in workers:
        worker.kill()


def work(jobs: Any, found: Any, epochs: float, until: float, first: str) -> None:
    """Train and judge one job after the other."""
    torch.set_num_threads(2)
    typical = 0.0
    while time.time() + typical < until:
        try:
            stem, seed = jobs.get(timeout=1.0)
        except queue.Empty:
            return
        started = time.time()
        try:
            result = measure(stem, seed, epochs, floors=stem == first)
        except Exception:  # the other jobs go on, and this one's trace is printed
            result = {"failed": traceback.format_exc(limit=-3)}
        typical = time.time() - started
        found.put((stem, seed, result))


def measure(stem: str, seed: int, epochs: float, *, floors: bool) -> dict[str, Any]:
    from unlabeled.data.fashion_mnist import FashionMnist
    from unlabeled.data.labeled_part import LabeledPart
    from unlabeled.evaluation import evaluate
    from unlabeled.pretraining import pretrain

    data = LabeledPart(FashionMnist(), share=LABELED)
    with tempfile.TemporaryDirectory() as folder:
        run = pretrain(
            stem, data=data, encoder=ENCODER, epochs=epochs, seed=seed, out=f"{folder}/run",
            logger=False, benchmark=torch.cuda.is_available(), checkpoint_seconds=1e9,
        )  # fmt: skip
        scores = evaluate(
            run,
            data=data,
            protocols=("knn", "linear"),
            floors=("raw", "random") if floors else (),
            readouts=("pooled",),
            random_seeds=1,
            seed=seed,
            name=stem,
        )
        result: dict[str, Any] = {"seconds": run.status()["seconds"]}
    for row in scores.rows:
        if not row.protocol.startswith("labelfree"):
            kind = row.protocol.partition("/")[0]
            result.setdefault(row.name, {})[kind] = round(row.value, 3)
            result.setdefault("protocols", {})[kind] = row.protocol
    return result


def write(options: argparse.Namespace, table: dict[str, Any]) -> None:
    from unlabeled.artifacts import commit, environment, write_json

    facts = environment()
    device = facts["device"] if torch.cuda.is_available() else facts["processor"]
    content = {
        "data": "2,000 images of fashion-mnist (200 a class)",
        "encoder": "resnet18, small stem",
        "epochs": options.epochs,
        "device": f"{device}, {options.workers} runs at a time",
        "commit": commit() or options.commit or "no git",
        "versions": facts["versions"],
        "runs": table,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, content)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    main()
