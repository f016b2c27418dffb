"""The frame of the benchmarks: ratios, verdicts, and that no script stops another."""

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def common():
    return load("_common")


@pytest.fixture(scope="module")
def run():
    return load("run")


def options(**changes):
    values = {"quick": True, "peers": None, "spt": None, "by": "wall", "patience": 1.0}
    return argparse.Namespace(**{**values, "minutes": 15.0, "out": None, "only": [], **changes})


def test_ratios_are_medians_of_paired_rounds(common):
    # the machine slows down by ten in the middle: the ratio of each round stays 2
    runs = common.measured(
        {"unlabeled": [(1, 1), (10, 1), (11, 1)], "peer": [(2, 3), (20, 3), (22, 3)]}
    )
    assert runs["peer"].over(runs["unlabeled"], "wall") == pytest.approx(2)
    assert runs["peer"].over(runs["unlabeled"], "cpu") == pytest.approx(3)


def test_contestants_take_turns_and_a_peer_that_fails_is_absent(common, capsys):
    order = []

    def broken():
        raise RuntimeError("no such thing")

    calls = {"unlabeled": lambda: order.append("u"), "peer": lambda: order.append("p")}
    runs = common.paired({**calls, "old": broken, "gone": None}, rounds=3)
    assert "".join(order) == "up" + "up" * 3
    assert runs.absent["gone"] == "not installed"
    assert runs.absent["old"] == "failed: RuntimeError: no such thing"
    with pytest.raises(RuntimeError, match="no such thing"):
        common.paired({"unlabeled": broken})


def test_the_verdict_follows_from_the_goals(common, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UNLABELED_BENCH_JSON", str(tmp_path / "rows"))
    times = {"unlabeled": [(1, 1)], "a": [(2, 2)], "b": [(3, 3)], "limit": [(0.5, 0.5)]}
    runs = common.measured(times)
    row = {"peers": ("a", "b"), "limit": "limit"}
    report = common.report
    assert report("w", runs, **row, over_peer=2, of_limit=2)["reached"] is True  # of the best one
    missed = report("w", runs, **row, over_peer={"a": 2, "b": 4}, of_limit=1.5)
    assert missed["missed"] == [">= 4x b", "<= 1.5x the limit"]
    assert report("w", runs, **row, over_peer={"c": 2})["reached"] is None  # absent: not decided
    memory = common.Check("peak MiB", 300.0, most=256)
    assert report("w", runs, **row, checks=[memory])["missed"] == ["peak MiB <= 256"]
    assert report("w", runs, **row)["reached"] is None
    lines = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    assert [line["reached"] for line in lines] == [True, False, None, False, None]
    assert "NOT reached (peak MiB <= 256)" in capsys.readouterr().out


def test_one_failing_script_stops_no_other(run, tmp_path, monkeypatch, capsys):
    scripts = {
        "good": "import json, os\n"
        "row = dict(work='good work', goal='>= 1x it', reached=True, missed=[], peers=dict(it=2.0),"
        " absent=dict(other='not installed'), limit=None, limit_name=None, checks={}, note='n',"
        " seconds=dict(unlabeled=dict(median=0.5)), command='python benchmarks/good.py', load=0.5,"
        " threads=2, versions='torch 1')\n"
        "open(os.environ['UNLABELED_BENCH_JSON'], 'a').write(json.dumps(row) + '\\n')\n",
        "bad": "raise ValueError('broken on purpose')",
        "slow": "import time; time.sleep(60)",
        "plain": "print('1 ms an image')",
    }
    for name, text in scripts.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(run, "HERE", tmp_path)
    monkeypatch.setattr(
        run, "SCRIPTS", {name: run.Script(run.PEERS, 20, quick=()) for name in scripts}
    )
    rows = []
    for name in scripts:
        began = time.monotonic()
        rows += run.run(name, options(), left=6 if name == "slow" else 60)
        assert time.monotonic() - began < 30
    rows += run.run("good", options(), left=1)
    text = run.render(rows, began=time.time(), load=0.5, options=options())
    assert "| good work (500.0 ms) | >= 1x it | 2.00x it, other absent | - | yes |" in text
    assert "**failed**: exit 1: ValueError: broken on purpose" in text
    assert "**failed**: not done after 6 s" in text
    assert "1 ms an image" in text
    assert "the 15 minutes were over" in text
    assert "Goals reached: 1 of 1" in text


def test_every_script_is_listed_and_says_what_it_does(run):
    files = {path.stem for path in FOLDER.glob("[a-z]*.py")} - {"run"}
    assert files <= set(run.SCRIPTS)
    readme = (FOLDER / "README.md").read_text()
    for name in files:
        assert f"`{name}.py`" in readme
        assert (FOLDER / f"{name}.py").read_text().startswith('"""')


def test_the_rows_of_one_script_can_be_measured_again(run):
    def row(script, work, reached):
        return {
            "script": script,
            "work": work,
            "goal": "some",
            "reached": reached,
            "missed": [] if reached else ["some"],
            "peers": {},
            "absent": {},
            "checks": {},
            "limit": None,
            "limit_name": None,
            "seconds": {},
            "command": f"python benchmarks/{script}.py",
        }

    whole = [row("views", "v", True), row("losses", "l", False), row("ema", "e", True)]
    page = run.render(whole, began=0.0, load=1.0, options=options(quick=False))
    again = [row("losses", "l", True), row("losses", "more", True), row("knn", "new", False)]
    new = run.updated(page, again, began=0.0, options=options(only=["losses", "knn"]))
    works = [line.split(" | ")[0] for line in new.splitlines() if "benchmarks/" in line]
    assert works == ["| v", "| l", "| more", "| e", "| new"]
    assert "Goals reached: 4 of 5." in new
    assert "Rows of losses, knn: again" in new
