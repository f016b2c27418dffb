"""What the benchmark scripts share: paired runs, peak memory, one printed line a case, goals.

A script measures one kind of work, in one command, beside the peers that its environment has:

    options = arguments(__doc__)
    runs = paired({"unlabeled": ours, "lightly": theirs, "limit": bare}, options)
    report("NT-Xent, N=1024", runs, peers=("lightly",), limit="limit", over_peer=2.5, of_limit=1.5)

Every ratio is a median over rounds of paired ratios and above 1 where ours is the faster one; the
ratio to the limit is our time over that of the limit, so 1 is all that can be had. Goals are
written as numbers in the call, and the printed goal and the verdict both come from these.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

warnings.filterwarnings("ignore")

OWN = "unlabeled"
COLLECT = "UNLABELED_BENCH_JSON"
"""Environment variable: a file to which `report` appends a JSON line a row; `run.py` reads it."""
BY = "UNLABELED_BENCH_BY"
"""Environment variable: which time the verdicts take, "wall" or, on a busy machine, "cpu"."""
PEERS = ("lightly", "kornia", "faiss-cpu", "stable-pretraining")


# Arguments ---------------------------------------------------------------------------------------


def arguments(
    description: str | None,
    *,
    cases: Sequence[str] = (),
    extend: Callable[[argparse.ArgumentParser], object] | None = None,
) -> argparse.Namespace:
    """Parse what all scripts take: ``[CASE ...] --quick --rounds N --threads N --device NAME``.

    ``options.cases`` is what was asked for, all of them by default. The threads are set here.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if cases:
        parser.add_argument(
            "cases", nargs="*", default=list(cases), metavar="CASE", help=str(cases)
        )
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, few rounds: does it run?"
    )
    parser.add_argument("--rounds", type=int, default=None, help="rounds of paired runs")
    parser.add_argument("--threads", type=int, default=None, help="of torch, faiss and our kernels")
    parser.add_argument("--device", default=None, help="cpu or cuda; both where there is a choice")
    if extend is not None:
        extend(parser)
    options = parser.parse_args()
    unknown = set(options.cases) - set(cases) if cases else set()
    if unknown:
        parser.error(f"no case {', '.join(sorted(unknown))}: there are {', '.join(cases)}")
    if options.threads:
        torch.set_num_threads(options.threads)
    options.threads = torch.get_num_threads()
    return options


def peer(name: str) -> ModuleType | None:
    """Import a peer's module, or return None where the environment lacks it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


# Paired runs -------------------------------------------------------------------------------------


@dataclass
class Timing:
    """Seconds a call, one entry a round: by the clock, and of all this process's threads."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    note: str = ""

    def times(self, kind: str | None = None) -> list[float]:
        return self.cpu if (kind or by()) == "cpu" else self.wall

    def over(self, other: Timing, kind: str | None = None) -> float:
        """Median over the rounds of this one's time divided by the other's."""
        pairs = zip(self.times(kind), other.times(kind), strict=True)
        return statistics.median(mine / max(theirs, 1e-9) for mine, theirs in pairs)


class Runs(dict[str, Timing]):
    """The timings of `paired`; ``absent`` names the contestants that could not run, and why."""

    def __init__(self) -> None:
        super().__init__()
        self.absent: dict[str, str] = {}


def paired(
    contestants: Mapping[str, Callable[[], object] | None],
    options: argparse.Namespace | None = None,
    *,
    rounds: int = 7,
    warmup: int = 1,
    least_seconds: float = 0.0,
    budget: float = 30.0,
    device: str = "cpu",
) -> Runs:
    """Run the contestants in turn, round by round, so that drift and load hit all alike.

    Args:
        contestants: name -> call; None, or a call that fails at its first run, is "absent" (ours
            must not fail).
        options: of `arguments`; ``--rounds`` and ``--quick`` (at most 3) change the rounds.
        rounds: at most.
        warmup: runs of each before the first round; at least the trial run.
        least_seconds: a round repeats a call until it took so long, and counts the mean.
        budget: seconds after which no further round starts, once there are two.
        device: "cuda" waits for the GPU after each call.
    """
    if options is not None:
        rounds = options.rounds or (min(rounds, 3) if options.quick else rounds)
    runs, alive = Runs(), dict[str, Callable[[], object]]()
    for name, call in contestants.items():
        if call is None:
            runs.absent[name] = "not installed"
            continue
        try:
            for _ in range(max(1, warmup)):
                call()
                _wait(device)
        except Exception as error:
            if name == OWN:
                raise
            runs.absent[name] = (
                f"failed: {type(error).__name__}: {' '.join(str(error).split())[:120]}"
            )
            print(f"  {name} left out, {runs.absent[name]}", file=sys.stderr, flush=True)
            continue
        alive[name], runs[name] = call, Timing()
    began = time.perf_counter()
    for number in range(rounds):
        if number >= 2 and time.perf_counter() - began > budget:
            break
        for name, call in alive.items():
            count, cpu, wall = 0, time.process_time(), time.perf_counter()
            while True:
                call()
                _wait(device)
                count += 1
                passed = time.perf_counter() - wall
                if passed >= least_seconds:
                    break
            runs[name].wall.append(passed / count)
            runs[name].cpu.append((time.process_time() - cpu) / count)
    return runs


def measured(seconds: Mapping[str, Sequence[tuple[float, float]]]) -> Runs:
    """`Runs` from (wall, cpu) pairs taken elsewhere, round by round and in turn."""
    runs = Runs()
    for name, pairs in seconds.items():
        runs[name] = Timing([wall for wall, _ in pairs], [cpu for _, cpu in pairs])
    return runs


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


# Memory ------------------------------------------------------------------------------------------


def peak_mib(call: Callable[[], object], *, device: str = "cpu") -> float:
    """MiB that one call holds at its peak beyond what there was before it; NaN where unknown.

    On CPU the resident memory of the process (Linux), on CUDA the allocated memory.
    """
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with suppress(Exception):
        import ctypes

        ctypes.CDLL("libc.so.6").malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return float("nan")
    before = _status_mib("VmRSS")
    call()
    return max(0.0, _status_mib("VmHWM") - before)


def _status_mib(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    return float("nan")


# Reports -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """A goal that is no ratio of times: ``Check("peak MiB", 129, most=256)``."""

    name: str
    value: float
    least: float | None = None
    most: float | None = None

    @property
    def goal(self) -> str:
        low = "" if self.least is None else f"{self.name} >= {_short(self.least)}"
        high = "" if self.most is None else f"{self.name} <= {_short(self.most)}"
        return ", ".join(part for part in (low, high) if part)

    @property
    def reached(self) -> bool | None:
        if self.value != self.value or (self.least is None and self.most is None):
            return None
        low = self.least is None or self.value >= self.least
        return low and (self.most is None or self.value <= self.most)


def report(
    work: str,
    runs: Runs,
    *,
    own: str = OWN,
    peers: Iterable[str] = (),
    limit: str | None = None,
    over_peer: float | Mapping[str, float] | None = None,
    of_limit: float | None = None,
    checks: Sequence[Check] = (),
    per_call: float | None = None,
    unit: str = "",
    note: str = "",
    kind: str | None = None,
) -> dict[str, Any]:
    """Print the line of one row, append it to the collector's file, and return it.

    Args:
        work: what was done, sizes included.
        runs: of `paired`; contestants that are neither ours, peer nor limit are printed only.
        own: the name of ours.
        peers: names of the peers.
        limit: the name of the contestant that is what the hardware allows.
        over_peer: the least "peer's time / ours": of the fastest peer, or name -> number.
        of_limit: the most "our time / the limit's".
        checks: other goals, all of which must hold too.
        per_call: items that a call handles, printed as items a second of ``unit``.
        unit: of ``per_call``.
        note: printed at the end of the line and kept.
        kind: "wall" or "cpu"; by default what the environment variable `BY` says, else wall.
    """
    kind = kind or by()
    listed = list(peers)
    present = [name for name in listed if name in runs]
    ours = runs[own]
    ratios = {name: runs[name].over(ours, kind) for name in present}
    best = min(ratios, key=lambda name: ratios[name]) if ratios else None
    to_limit = ours.over(runs[limit], kind) if limit in runs and limit is not None else None
    goals: list[tuple[str, bool | None]] = []
    if isinstance(over_peer, Mapping):
        for name, least in over_peer.items():
            found = ratios.get(name)
            goals.append((f">= {least:g}x {name}", None if found is None else found >= least))
    elif over_peer is not None:
        whom = "the best peer" if len(listed) > 1 else listed[0]
        goals.append(
            (f">= {over_peer:g}x {whom}", None if best is None else ratios[best] >= over_peer)
        )
    if of_limit is not None:
        goals.append(
            (f"<= {of_limit:g}x the limit", None if to_limit is None else to_limit <= of_limit)
        )
    goals += [(check.goal, check.reached) for check in checks if check.goal]
    verdicts = [verdict for _, verdict in goals]
    reached = False if False in verdicts else None if None in verdicts or not goals else True
    row: dict[str, Any] = {
        "work": work,
        "goal": ", ".join(text for text, _ in goals),
        "reached": reached,
        "missed": [text for text, verdict in goals if verdict is False],
        "peers": ratios,
        "best_peer": best,
        "limit": to_limit,
        "limit_name": limit,
        "checks": {check.name: check.value for check in checks},
        "absent": runs.absent,
        "seconds": {
            name: {"median": statistics.median(t.wall), "cpu": statistics.median(t.cpu)}
            for name, t in runs.items()
        },
        "rounds": len(ours.wall),
        "by": kind,
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "command": " ".join(["python", *_relative(sys.argv)]),
        "note": note,
        "versions": versions(),
    }
    print(_line(row, runs, own, per_call, unit), flush=True)
    if COLLECT in os.environ:
        with open(os.environ[COLLECT], "a") as file:
            file.write(json.dumps(row) + "\n")
    return row


def _line(row: dict[str, Any], runs: Runs, own: str, per_call: float | None, unit: str) -> str:
    parts = [Path(sys.argv[0]).stem, row["work"]]
    for name, timing in runs.items():
        times = timing.wall
        text = f"{name} {_time(statistics.median(times))} [{_time(min(times))}-{_time(max(times))}]"
        if per_call:
            text += f" = {per_call / statistics.median(times):,.0f} {unit}/s"
        if name == row["limit_name"]:
            text += f", ours is x{runs[own].over(timing, 'wall'):.2f} of it"
            text += f" (cpu x{runs[own].over(timing, 'cpu'):.2f})"
        elif name != own:
            text += f", ours x{timing.over(runs[own], 'wall'):.2f}"
            text += f" (cpu x{timing.over(runs[own], 'cpu'):.2f})"
        parts.append(text + (f" {timing.note}" if timing.note else ""))
    parts += [f"{name} absent ({why})" for name, why in row["absent"].items()]
    parts += [f"{name} {_short(value)}" for name, value in row["checks"].items()]
    if row["goal"]:
        verdict = {True: "reached", False: f"NOT reached ({'; '.join(row['missed'])})"}
        parts.append(f"goal {row['goal']}: {verdict.get(row['reached'], 'not decided')}")
    if row["note"]:
        parts.append(row["note"])
    parts.append(f"{row['rounds']} rounds, load {row['load']:.1f}")
    return " | ".join(parts)


def _time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} us"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def by() -> str:
    """Which time decides: "wall" or "cpu"."""
    return os.environ.get(BY, "wall")


def _relative(argv: Sequence[str]) -> list[str]:
    path = Path(argv[0]).resolve()
    root = Path(__file__).resolve().parents[1]
    return [str(path.relative_to(root) if path.is_relative_to(root) else path), *argv[1:]]


# Where -------------------------------------------------------------------------------------------


def machine() -> str:
    """Processor, cores, what matters for speed, GPU."""
    from unlabeled.ops.knn import bfloat16_is_fast

    name, flags = platform.processor() or platform.machine(), ""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            if key.strip() == "flags":
                flags = value
    simd = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "no AVX2"
    narrow = "bfloat16 in hardware" if bfloat16_is_fast(torch.device("cpu")) else "no bfloat16"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{os.cpu_count()} cores of {name} ({simd}, {narrow}), {gpu}"


def versions() -> str:
    """Python, torch, lightning, the library, and the peers that are there."""
    found = [f"Python {platform.python_version()}"]
    for name in ("torch", "torchvision", "lightning", "numpy", "scikit-learn", "unlabeled", *PEERS):
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return ", ".join(found)
