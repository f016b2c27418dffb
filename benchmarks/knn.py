"""kNN search: the 20 (and 200) nearest of 50,000 rows for 10,000 queries of 512 numbers, by cosine.

spectrum: features whose variances fall as 1/i over the principal directions, in ten clusters, as
    trained encoders have them; isotropic: the same clusters in white noise, the hardest case.
Ours is what the evaluator runs, normalization included; the peers get unit rows. The results must
equal faiss's: the share of queries with the same set of neighbors is a check, 1 up to rounding (a
pair of rows whose similarities differ by less than 1e-6 may be swapped).
"""

from __future__ import annotations

from typing import Any

import torch
from _common import OWN, Check, arguments, paired, peak_mib, peer, report
from torch import Tensor
from torch.nn.functional import normalize

from unlabeled.ops.knn import bfloat16_is_fast, search

CASES = ("spectrum", "isotropic")
CLASSES, WIDTH = 10, 512


def features(
    kind: str, rows: int, queries: int, *, apart: float = 0.35
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Bank and queries, unit rows, with labels; ``apart`` spreads the clusters' centers."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(CLASSES, (rows + queries,), generator=generator)
    x = torch.randn(CLASSES, WIDTH, generator=generator)[label] * apart
    x += torch.randn(rows + queries, WIDTH, generator=generator)
    if kind == "spectrum":
        rotation = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator)).Q
        x = (x / torch.arange(1, WIDTH + 1).sqrt()) @ rotation
    x = normalize(x, dim=1)
    return x[:rows], label[:rows], x[rows:], label[rows:]


def main() -> None:
    options = arguments(__doc__, cases=CASES)
    rows, count = (5000, 1000) if options.quick else (50_000, 10_000)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in [options.device] if options.device else devices:
        for kind in options.cases:
            # without structure in the data only the answers need to be seen to be equal
            whole = kind == "spectrum"
            data = features(kind, rows, count if whole else count // 5)
            for k in (20, 200) if whole else (20,):
                row(kind, device, k, data, options)


def row(kind: str, device: str, k: int, data: tuple[Tensor, ...], options: Any) -> None:
    bank, label, queries, _ = (part.to(device) for part in data)
    faiss, lightly = (peer(name) if device == "cpu" else None for name in ("faiss", "lightly"))
    found: dict[str, Tensor] = {}

    def ours() -> None:
        found[OWN] = search(queries, bank, k=k)[1]

    calls: dict[str, Any] = {OWN: ours, "faiss flat": None, "lightly": None}
    if faiss is not None:
        faiss.omp_set_num_threads(options.threads)
        index = faiss.IndexFlatIP(bank.shape[1])
        index.add(bank.numpy())

        def flat() -> None:
            found["faiss"] = torch.from_numpy(index.search(queries.numpy(), k)[1])

        calls["faiss flat"] = flat
    if lightly is not None:
        from lightly.utils.benchmarking.knn import knn_predict

        def theirs() -> None:
            for part in queries.split(512):
                knn_predict(part, bank.T, label, CLASSES, knn_k=k, knn_t=0.07)

        calls["lightly"] = theirs
    buffer = torch.empty(1024, len(bank), device=device)

    def product() -> None:
        for part in queries.split(1024):
            torch.mm(part, bank.T, out=buffer[: len(part)])

    limit = "matrix product in float32"
    runs = paired({**calls, limit: product}, options, rounds=3, warmup=1, budget=25, device=device)
    checks = [Check("peak MiB", peak_mib(ours, device=device), most=512)]
    if "faiss" in found:
        checks.append(Check("equal to faiss", equal(bank, queries, found), least=1))
    report(
        f"kNN, {kind}, {len(queries):,} in {len(bank):,} x {bank.shape[1]}, k = {k}, {device}",
        runs,
        peers=("faiss flat", "lightly"),
        limit=limit,
        over_peer={"faiss flat": 1.3, "lightly": 1.0} if device == "cpu" else None,
        of_limit=None if device == "cpu" else 1.5,
        checks=checks,
        per_call=len(queries),
        unit="queries",
        note=""
        if bfloat16_is_fast(bank.device)
        else "no bfloat16 here: all in float32, where faiss is at the limit of the processor too",
    )


def equal(bank: Tensor, queries: Tensor, found: dict[str, Tensor]) -> float:
    """Share of queries whose k-th similarities agree to 1e-6 at every place."""
    good = 0
    for start in range(0, len(queries), 500):
        part = queries[start : start + 500, :, None].double()
        ours, theirs = (
            torch.bmm(bank[places[start : start + 500]].double(), part)[..., 0].sort(1).values
            for places in (found[OWN], found["faiss"])
        )
        good += int(((ours - theirs).abs().amax(1) < 1e-6).sum())
    return good / len(queries)


if __name__ == "__main__":
    main()
