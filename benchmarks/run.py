"""Run the benchmark scripts, each in a process of its own, and write RESULTS.md.

A script that fails, runs out of time or lacks its peers is shown as such and stops no other.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PEERS, SPT = ".venv-peers", ".venv-spt"


@dataclass(frozen=True)
class Script:
    """What one script needs.

    Args:
        environment: `PEERS`, or `SPT`, which also has stable-pretraining; of use only to scripts
            without a Lightning Trainer, since that package puts callbacks into all of them.
        seconds: after which it is ended, on two cores; `--minutes` bounds all together.
        arguments: of a whole run.
        quick: in their place, of a run with ``--quick``.
    """

    environment: str
    seconds: int
    arguments: tuple[str, ...] = ()
    quick: tuple[str, ...] = ("--quick",)


SCRIPTS = {
    "startup": Script(SPT, 60),
    "first_batch": Script(PEERS, 60, ("50000",), ("500",)),
    "views": Script(SPT, 120),
    "decode": Script(PEERS, 60, (), ()),
    "losses": Script(SPT, 240),
    "ema": Script(PEERS, 45),
    "step": Script(PEERS, 200),
    "knn": Script(PEERS, 200),
    "probe": Script(PEERS, 90),
    "embed_folder": Script(PEERS, 150),
    "accuracy": Script(PEERS, 240),
}


def main() -> int:
    options = parse()
    results: list[dict[str, Any]] = []
    began, load = time.time(), os.getloadavg()[0]
    for name in options.only:
        print(f"== {name}", flush=True)
        spent = time.monotonic()
        left = began + 60 * options.minutes - time.time()
        rows = run(name, options, left=left)
        print(f"   {time.monotonic() - spent:.0f} s", flush=True)
        results += rows
    text = render(results, began=began, load=load, options=options)
    if options.update:
        page = HERE / "RESULTS.md"
        page.write_text(updated(page.read_text(), results, began=began, options=options))
        print(f"\nrows of {', '.join(options.only)} replaced in {page}")
        return 0
    out = options.out
    if out is None and not options.quick and set(options.only) == set(present()):
        out = HERE / "RESULTS.md"
    if out is None:
        print(f"\n{text}")
    else:
        out.write_text(text)
        print(f"\nwrote {out}")
    return 0


def present() -> list[str]:
    """Scripts that are there, in the order of `SCRIPTS`."""
    return [name for name in SCRIPTS if (HERE / f"{name}.py").is_file()]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(present()), help="names, with commas between")
    parser.add_argument("--quick", action="store_true", help="small sizes: does everything run?")
    parser.add_argument("--out", type=Path, help="where the table goes; RESULTS.md for a whole run")
    parser.add_argument(
        "--update", action="store_true", help="replace the rows of --only in RESULTS.md"
    )
    parser.add_argument("--by", choices=("wall", "cpu"), default="wall", help="which time decides")
    parser.add_argument("--peers", help=f"the peers' python; {PEERS}/bin/python by default")
    parser.add_argument("--spt", help=f"with stable-pretraining; {SPT}/bin/python by default")
    parser.add_argument("--minutes", type=float, default=15.0, help="for all scripts together")
    parser.add_argument("--patience", type=float, default=1.0, help="multiplies the time limits")
    options = parser.parse_args()
    options.only = [name for name in options.only.split(",") if name]
    unknown = [name for name in options.only if name not in present()]
    if options.update and (options.quick or not (HERE / "RESULTS.md").is_file()):
        parser.error("--update needs a RESULTS.md of a whole run, and sizes that are not --quick")
    if unknown:
        parser.error(f"no script {', '.join(unknown)}: there are {', '.join(present())}")
    return options


def python(environment: str, options: argparse.Namespace) -> str:
    """The interpreter of an environment, of the other one, or this one, which has no peers."""
    given = {PEERS: options.peers, SPT: options.spt}
    # never the other way round: stable-pretraining changes every Trainer of its environment
    order = (SPT, PEERS) if environment == SPT else (PEERS,)
    for name in order:
        path = Path(given[name] or ROOT / name / "bin" / "python")
        if path.is_file():
            return str(path.absolute())  # not resolved: a venv's python is a link
    return sys.executable


def run(name: str, options: argparse.Namespace, *, left: float) -> list[dict[str, Any]]:
    """Run one script and return its rows, the last one being its failure if it failed."""
    if left < 5:
        why = f"the {options.minutes:g} minutes were over"
        return [{"script": name, "work": f"{name}, all", "failed": why}]
    script = SCRIPTS[name]
    command = [python(script.environment, options), str(HERE / f"{name}.py")]
    command += script.quick if options.quick else script.arguments
    limit = min(script.seconds * options.patience, left)
    failed = None
    with tempfile.TemporaryDirectory() as folder:
        found, errors = Path(folder) / "rows.jsonl", Path(folder) / "errors.txt"
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "UNLABELED_BENCH_JSON": str(found),
            "UNLABELED_BENCH_BY": options.by,
        }
        with errors.open("w") as sink:
            # a session of its own: workers that a script started end with it
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=sink,
                text=True,
                start_new_session=True,
            )
            late = threading.Event()

            def stop() -> None:
                late.set()
                kill(process)

            timer = threading.Timer(limit, stop)
            timer.start()
            printed = []
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    print(line, end="", flush=True)
                    printed.append(line.strip())
                code = process.wait()
            finally:
                timer.cancel()
                kill(process)
        complaint = errors.read_text()
        lines = found.read_text().splitlines() if found.exists() else []
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    if late.is_set():
        failed = f"not done after {limit:.0f} s"
    elif code:
        failed = f"exit {code}: {last_line(complaint)}"
    if failed is not None:
        print(f"   FAILED, {failed}", flush=True)
        sys.stderr.write(complaint[-2000:])
        rows.append({"work": f"{name}, {'the rest' if rows else 'all'}", "failed": failed})
    elif not rows:  # a script without goals: what it said
        rows.append({"work": name, "said": [line for line in printed if line]})
    return [{**row, "script": name} for row in rows]


def kill(process: subprocess.Popen[Any]) -> None:
    """End the script and what it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1] if lines else "no message")[:160]


# The table ---------------------------------------------------------------------------------------


def render(
    results: list[dict[str, Any]], *, began: float, load: float, options: argparse.Namespace
) -> str:
    """RESULTS.md."""
    date = datetime.datetime.fromtimestamp(began).strftime("%Y-%m-%d %H:%M")
    loads = [row["load"] for row in results if "load" in row]
    about = f"1-minute load {load:.1f} before, {max(loads, default=load):.1f} at most, with our own"
    used = sorted({part for row in results for part in row.get("versions", "").split(", ") if part})
    threads = sorted({row["threads"] for row in results if "threads" in row})
    done = [row for row in results if row.get("reached") is not None]
    good = sum(row["reached"] for row in done)
    small = " --quick (small sizes: the figures mean nothing)" if options.quick else ""
    counted = "the clock" if options.by == "wall" else "processor time"
    lines = [
        "# Results",
        "",
        f"{date}, by `make bench`{small} in {(time.time() - began) / 60:.0f} minutes. {machine()}; "
        f"{' or '.join(map(str, threads))} threads; {about}. Commit {commit()}.",
        "",
        f"{', '.join(used)}.",
        "",
        f"Goals reached: {good} of {len(done)}. Ratios are medians of paired runs, by {counted}: "
        "to a peer, its time over ours (above 1: ours is faster); to the limit, our time over that "
        "of the bare work (1 is all there is to have). How they are taken: [README.md](README.md).",
        "",
        "| work | goal | ours to peer | to limit | reached | command |",
        "|---|---|---|---|---|---|",
        *map(table_row, results),
    ]
    absent = sorted(
        {f"{name} ({why})" for row in results for name, why in row.get("absent", {}).items()}
    )
    if absent:
        lines += ["", f"Absent: {', '.join(absent)}."]
    notes = [f"- {row['work']}: {row['note']}" for row in results if row.get("note")]
    if notes:
        lines += ["", "Notes:", "", *notes]
    for row in results:
        if row.get("said"):
            lines += ["", f"`{row['script']}`:", "", "```", *row["said"], "```"]
    return "\n".join(lines) + "\n"


def updated(
    page: str, results: list[dict[str, Any]], *, began: float, options: argparse.Namespace
) -> str:
    """The page with the rows of the scripts that ran in place of their old ones."""
    date = datetime.datetime.fromtimestamp(began).strftime("%Y-%m-%d %H:%M")
    lines, left = [], list(options.only)
    for line in page.splitlines():
        name = next((name for name in options.only if f"benchmarks/{name}.py" in line), None)
        if name is None or not line.startswith("|"):
            lines.append(line)
        elif name in left:
            left.remove(name)
            lines += [table_row(row) for row in results if row["script"] == name]
    at = max(number for number, line in enumerate(lines) if line.startswith("|")) + 1
    added = [table_row(row) for row in results if row["script"] in left]
    rows = [line for line in [*lines, *added] if line.startswith("|") and "| yes |" in line]
    missed = [line for line in [*lines, *added] if line.startswith("|") and "**no**" in line]
    for number, line in enumerate(lines):
        if line.startswith("Goals reached:"):
            rest = line.partition(". ")[2]
            lines[number] = f"Goals reached: {len(rows)} of {len(rows) + len(missed)}. {rest}"
    note = f"Rows of {', '.join(options.only)}: again {date}, commit {commit()}."
    return "\n".join([*lines[:at], *added, *lines[at:], "", note]) + "\n"


def table_row(row: dict[str, Any]) -> str:
    command = f"`python benchmarks/{row['script']}.py`"
    if "failed" in row or "said" in row:
        verdict = f"**failed**: {row['failed']}" if "failed" in row else "see below"
        cells = [row["work"], "-", "-", "-", verdict, command]
        return f"| {' | '.join(map(escape, cells))} |"
    peers = [f"{ratio:.2f}x {name}" for name, ratio in row["peers"].items()]
    peers += [f"{name} absent" for name in row["absent"]]
    own = row["seconds"].get("unlabeled", {}).get("median")
    work = row["work"] if own is None else f"{row['work']} ({duration(own)})"
    limit = "-" if row["limit"] is None else f"{row['limit']:.2f}x {row['limit_name']}"
    checks = [f"{name} {number(value)}" for name, value in row["checks"].items()]
    verdict = {True: "yes", False: f"**no** ({'; '.join(row['missed'])})", None: "-"}[
        row["reached"]
    ]
    cells = [
        work,
        row["goal"] or "-",
        ", ".join(peers) or "-",
        ", ".join([limit, *checks]) if limit != "-" or not checks else ", ".join(checks),
        verdict,
        f"`{row['command']}`",
    ]
    return f"| {' | '.join(map(escape, cells))} |"


def escape(cell: str) -> str:
    return re.sub(r"\s+", " ", cell).replace("|", "\\|")


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} us"


def machine() -> str:
    code = "import sys; sys.path.insert(0, 'benchmarks'); import _common; print(_common.machine())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    return found.stdout.strip() or "unknown machine"


def commit() -> str:
    found = subprocess.run(
        shlex.split("git describe --always --dirty --exclude '*'"),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    raise SystemExit(main())
