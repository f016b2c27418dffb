"""The linear probe's sweep of 13 settings on cached features, beside one usual SGD head.

50,000 x 512 features of ten classes. Ours is the evaluator `Linear` with 13 strengths, from
features to the accuracy on test: sweep, choice on held-out rows, final fit. The usual head: SGD
with momentum, 20 epochs over a DataLoader of the cached features, one learning rate; two epochs are
run and counted ten times. scikit-learn: one setting of its L-BFGS.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from _common import OWN, Check, arguments, measured, peak_mib, report
from knn import CLASSES, features
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from unlabeled.evaluators.linear import Linear
from unlabeled.evaluators.logistic import Scaler
from unlabeled.features import Features

STRENGTHS = tuple(10.0**power for power in (-6 + 0.5 * step for step in range(13)))
EPOCHS, RUN = 20, 2


def main() -> None:
    options = arguments(__doc__)
    rows, count = (5000, 1000) if options.quick else (50_000, 10_000)
    x, label, queries, truth = features("spectrum", rows, count, apart=0.1)
    scale = Scaler.fit(x)
    plain, test = scale(x), scale(queries)
    train = Features(x, label)
    right: dict[str, float] = {}

    def ours() -> None:
        found = Linear(strengths=STRENGTHS).score(train, Features(queries, truth))
        right[OWN] = found[0].value

    def head() -> None:
        right["one SGD head"] = sgd(plain, label, test, truth)

    def sklearn() -> None:
        model = LogisticRegression(C=1 / (1e-4 * len(plain)), max_iter=100)
        model.fit(plain.numpy(), label.numpy())
        right["scikit-learn"] = 100 * model.score(test.numpy(), truth.numpy())

    calls = {OWN: ours, "one SGD head": head, "scikit-learn": sklearn}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for number in range(options.rounds or (1 if options.quick else 2)):
        for name, call in calls.items():
            cpu, wall = time.process_time(), time.perf_counter()
            call()
            factor = EPOCHS / RUN if name == "one SGD head" else 1
            spent = time.perf_counter() - wall, time.process_time() - cpu
            times[name].append((spent[0] * factor, spent[1] * factor))
            if number == 0 and name == OWN and not options.quick:
                times[name][-1:] = []  # the first run warms up
                cpu, wall = time.process_time(), time.perf_counter()
                call()
                times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    report(
        f"linear probe, sweep of 13, {rows:,} x {x.shape[1]} -> {CLASSES}",
        measured(times),
        peers=("one SGD head", "scikit-learn"),
        over_peer={"one SGD head": 2.0},
        checks=[
            Check("points below scikit-learn", right["scikit-learn"] - right[OWN], most=0.3),
            Check("peak MiB", peak_mib(ours)),
        ],
        note=", ".join(f"{name} {value:.2f} %" for name, value in right.items()),
    )


def sgd(x: Tensor, label: Tensor, test: Tensor, truth: Tensor) -> float:
    head = nn.Linear(x.shape[1], CLASSES)
    loader: DataLoader[Any] = DataLoader(TensorDataset(x, label), 256, shuffle=True)
    optimizer = torch.optim.SGD(head.parameters(), 0.1, 0.9)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, RUN * len(loader))
    for _ in range(RUN):
        for batch, wanted in loader:
            optimizer.zero_grad()
            cross_entropy(head(batch), wanted).backward()
            optimizer.step()
            rate.step()
    with torch.no_grad():
        return 100 * float((head(test).argmax(1) == truth).float().mean())


if __name__ == "__main__":
    main()
