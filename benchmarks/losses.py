"""Losses, forward and backward: time and peak memory beside the peers' and the bare arithmetic.

ntxent256 .. ntxent16384: NT-Xent of N pairs in 128 dimensions. The limit is the matrix products of
    the symmetric form, in blocks that stay in cache, and one exponential a pair of views. At 16384
    ours and the limit get one call each, in processes of their own; the peers, which end there
    for want of memory (15 GiB), only if this case is asked for alone.
moco: InfoNCE of 256 queries against a queue of 65,536. The limit is its two matrix products.
barlow, vicreg: 256 samples of 8,192 dimensions. The limit is the products of the Gram form.
dino: 32 samples, 2 + 6 views, 65,536 prototypes. The limit reads the student's logits and writes
    their exponentials once.
swav: Sinkhorn-Knopp of 4096 x 3000, three iterations. The limit is one such pass.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _common import OWN, Check, arguments, measured, paired, peak_mib, peer, report
from torch import Tensor

from unlabeled.losses.contrastive import info_nce, nt_xent
from unlabeled.losses.distillation import dino_cross_entropy
from unlabeled.losses.redundancy import barlow_twins, vicreg
from unlabeled.ops.sinkhorn import sinkhorn

CASES = (
    *("ntxent256", "ntxent1024", "ntxent4096", "ntxent16384"),
    *("moco", "barlow", "vicreg", "dino", "swav"),
)
DIM, BLOCK = 128, 1024
GOALS = {256: None, 1024: 3.0, 4096: 3.0}
PEERS = ("lightly", "stable-pretraining")
Call = Callable[[], object]


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        one(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
        return
    options = arguments(__doc__, cases=CASES)
    torch.manual_seed(0)
    others = {"moco": moco, "barlow": barlow, "vicreg": regularize, "dino": dino, "swav": swav}
    for case in options.cases:
        if case.startswith("ntxent"):
            contrast(options, int(case.removeprefix("ntxent")))
        else:
            others[case](options)


def passes(function: Callable[..., Tensor], *inputs: Tensor) -> Call:
    """Return a call of forward and backward pass."""

    def run() -> None:
        for x in inputs:
            x.grad = None
        function(*inputs).backward()

    return run


def show(
    options: Any, work: str, calls: dict[str, Call | None], goal: float | None, most: float | None
) -> None:
    runs = paired(calls, options)
    for name in runs:
        call = calls[name]
        if name != "limit" and call is not None:
            peak = peak_mib(call)
            runs[name].note = f"+{peak:.0f} MiB"
            if name == OWN:
                ours = peak
    check = Check("peak MiB", ours, most=most)
    # both peers live in environments of their own: the best is that of this environment
    peers = [name for name in calls if name in PEERS]
    report(work, runs, peers=peers, limit="limit", over_peer=goal, checks=[check])


# NT-Xent -----------------------------------------------------------------------------------------


def pair_losses(pairs: int) -> tuple[dict[str, Call | None], tuple[Tensor, Tensor]]:
    views = torch.randn(2, pairs, DIM)
    z1, z2 = views[0].requires_grad_(), views[1].clone().requires_grad_()
    calls: dict[str, Call | None] = {
        OWN: passes(lambda a, b: nt_xent(a, b, temperature=0.5), z1, z2)
    }
    lightly, other = peer("lightly.loss"), peer("stable_pretraining.losses")
    calls["lightly"] = lightly and passes(lightly.NTXentLoss(temperature=0.5), z1, z2)
    calls["stable-pretraining"] = other and passes(other.NTXEntLoss(temperature=0.5), z1, z2)
    return calls, (z1, z2)


def products(pairs: int) -> Call:
    """The blocks' matrix products and exponentials of the symmetric form, nothing else."""
    rows, side = torch.randn(2 * pairs, DIM), min(BLOCK, 2 * pairs)
    kept = 2 * pairs <= 4096
    blocks = (2 * pairs // side) * (2 * pairs // side + 1) // 2
    part, square, total = rows[:side], torch.empty(side, side), torch.zeros(side, DIM)

    def run() -> None:
        for _ in range(blocks if kept else 2 * blocks):
            torch.mm(part, part.T, out=square)
            square.exp_()
        for _ in range(2 * blocks):
            torch.mm(square, part, out=total)

    return run


def contrast(options: Any, pairs: int) -> None:
    if pairs > 4096:
        apart(options, pairs)
        return
    calls, inputs = pair_losses(pairs)
    gradients = {}
    for name, call in calls.items():
        if call is not None:
            call()
            gradients[name] = inputs[0].grad
    for name, value in gradients.items():
        torch.testing.assert_close(value, gradients[OWN], rtol=1e-3, atol=1e-6, msg=name)
    calls["limit"] = products(pairs)
    show(options, f"NT-Xent, N={pairs}, D={DIM}", calls, GOALS.get(pairs), None)


def apart(options: Any, pairs: int) -> None:
    """One call each in processes of their own, of which some run out of memory."""
    seconds: dict[str, list[tuple[float, float]]] = {}
    peaks, absent = {}, {}
    for name in (OWN, *PEERS, "limit") if options.cases == ["ntxent16384"] else (OWN, "limit"):
        command = [sys.executable, __file__, "--one", str(pairs), name, str(options.threads)]
        run = subprocess.run(command, capture_output=True, text=True)
        words = run.stdout.split()
        if run.returncode or len(words) != 3:
            absent[name] = (run.stderr.strip().splitlines() or ["killed"])[-1][:120]
            continue
        wall, cpu, peaks[name] = map(float, words)
        seconds[name] = [(wall, cpu)]
    runs = measured(seconds)
    runs.absent.update(absent)
    for name, peak in peaks.items():
        runs[name].note = f"+{peak:.0f} MiB"
    check = Check("peak MiB", peaks[OWN], most=256)
    peers = [name for name in PEERS if name in runs]
    goal = 3.0 if peers else None
    work = f"NT-Xent, N={pairs}, D={DIM}"
    report(work, runs, peers=peers or PEERS, limit="limit", over_peer=goal, checks=[check])


def one(pairs: int, name: str, threads: int) -> None:
    """Print wall time, CPU time and peak of one call; leave with an error where it cannot be."""
    torch.set_num_threads(threads)
    Path("/proc/self/oom_score_adj").write_text("1000")  # this process goes first, no other
    resource.setrlimit(resource.RLIMIT_DATA, (15 * 2**30,) * 2)
    call = products(pairs) if name == "limit" else pair_losses(pairs)[0][name]
    if call is None:
        sys.exit("not installed")
    times = []

    def timed() -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        call()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))

    peak = peak_mib(timed)
    print(*times[0], peak)


# The others --------------------------------------------------------------------------------------


def moco(options: Any) -> None:
    queries, rows = 256, 65536
    q, k = torch.randn(queries, DIM, requires_grad=True), torch.randn(queries, DIM)
    bank = torch.nn.functional.normalize(torch.randn(rows, DIM), dim=1)
    lightly = peer("lightly.loss")
    theirs = None
    if lightly is not None:
        loss = lightly.NTXentLoss(temperature=0.1, memory_bank_size=(rows, DIM))
        theirs = passes(lambda x: loss(x, k), q)
    scores = torch.empty(queries, 2048)

    def limit() -> None:
        for keys in bank.split(2048):
            torch.mm(q.detach(), keys.T, out=scores)
            torch.mm(scores, keys)

    calls: dict[str, Call | None] = {
        OWN: passes(lambda x: info_nce(x, k, bank, temperature=0.1), q),
        "lightly": theirs,
        "limit": limit,
    }
    show(options, f"InfoNCE, N={queries}, queue {rows}", calls, 3.5, 10)


def _redundancy(options: Any, name: str, ours: Any, theirs: str, goal: float) -> None:
    samples, dim = 256, 8192
    first = torch.randn(samples, dim)
    z1 = first.requires_grad_()
    z2 = (first.detach() + 0.5 * torch.randn(samples, dim)).requires_grad_()
    lightly, other = peer("lightly.loss"), peer("stable_pretraining.losses")
    gram, back = torch.empty(samples, samples), torch.empty(samples, dim)

    def limit() -> None:
        for z in (z1.detach(), z2.detach()):
            torch.mm(z, z.T, out=gram)
            torch.mm(gram, z, out=back)

    calls: dict[str, Call | None] = {
        OWN: passes(ours, z1, z2),
        "lightly": lightly and passes(getattr(lightly, theirs)(), z1, z2),
        "stable-pretraining": other and passes(getattr(other, theirs)(), z1, z2),
        "limit": limit,
    }
    show(options, f"{name}, N={samples}, D={dim}", calls, goal, None)


def barlow(options: Any) -> None:
    _redundancy(options, "Barlow Twins", barlow_twins, "BarlowTwinsLoss", 25)


def regularize(options: Any) -> None:
    _redundancy(options, "VICReg", vicreg, "VICRegLoss", 40)


def dino(options: Any) -> None:
    samples, width = 32, 65536
    teacher = torch.randn(2, samples, width)
    student = torch.randn(8, samples, width, requires_grad=True)
    center, out = torch.zeros(width), torch.empty(8, samples, width)
    lightly = peer("lightly.loss")
    theirs = None
    if lightly is not None:
        loss = lightly.DINOLoss(width)
        theirs = passes(lambda x: loss(list(teacher), list(x.unbind(0))), student)
    calls: dict[str, Call | None] = {
        OWN: passes(
            lambda x: dino_cross_entropy(x, teacher, center=center, teacher_temperature=0.04),
            student,
        ),
        "lightly": theirs,
        "limit": lambda: torch.exp(student.detach(), out=out),
    }
    show(options, f"DINO, B={samples}, 2+6 views, K={width}", calls, 2.5, None)


def swav(options: Any) -> None:
    scores = torch.randn(4096, 3000).mul_(0.1).clamp_(-1, 1)
    out = torch.empty_like(scores)
    lightly = peer("lightly.loss.swav_loss")
    calls: dict[str, Call | None] = {
        OWN: lambda: sinkhorn(scores),
        "lightly": lightly and (lambda: lightly.sinkhorn(scores)),
        "limit": lambda: torch.exp(scores, out=out),
    }
    show(options, "Sinkhorn, 4096 x 3000, 3 iterations", calls, 1.3, None)


if __name__ == "__main__":
    main()
