"""The command line: what people and scripts see."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from unlabeled import catalog
from unlabeled.cli import main

COMMANDS = (
    "list",
    "show",
    "taxonomy",
    "pretrain",
    "evaluate",
    "embed",
    "export",
    "bench",
    "doctor",
)
DATA_COMMANDS = ("data list", "data get", "data info", "data shard", "data index")


def run(capsys, *arguments):
    """Exit status, standard output and standard error of a command."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    seen = capsys.readouterr()
    return stop.value.code, seen.out, seen.err


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (folder / name).mkdir()
        for number in range(40):
            pixels = random.integers(0, 255, (36, 40, 3), np.uint8)
            pixels[..., 0 if name == "cats" else 2] //= 4
            Image.fromarray(pixels).save(folder / name / f"{number} ü.png")
    return folder


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    command = ["pretrain", "simclr", "--data", photos, "--out", out, "--json", "steps=3"]
    with pytest.raises(SystemExit) as stop:
        main([str(part) for part in command])
    assert stop.value.code == 0
    return out


@pytest.mark.parametrize("command", [*COMMANDS, *DATA_COMMANDS])
def test_help_of_every_command_shows_an_example(capsys, command):
    status, out, _ = run(capsys, *command.split(), "--help")
    assert status == 0
    assert f"unlabeled {command.split()[0]}" in out


def test_list_is_a_list_of_127_objects(capsys):
    status, out, _ = run(capsys, "list", "--json")
    rows = json.loads(out)
    assert status == 0
    assert len(rows) == 127
    keys = {"id", "stem", "title", "modality", "family", "kind", "status", "published", "measured"}
    assert all(keys <= set(row) for row in rows)
    known = {"not yet", "implemented", "stale", "not learning", "measured"}
    assert {row["status"] for row in rows} <= known


def test_list_filters(capsys):
    _, out, _ = run(capsys, "list", "--json", "--modality", "speech")
    assert {row["modality"] for row in json.loads(out)} == {"speech"}


def test_show_lists_what_can_be_overridden(capsys):
    status, out, _ = run(capsys, "show", "simclr")
    assert status == 0
    assert "method.temperature = " in out
    assert "69.3" in out


def test_pretrain_on_a_row_that_is_not_built_says_so(capsys):
    waiting = next(stem for stem in catalog.cards() if catalog.module_path(stem) is None)
    status, _, err = run(capsys, "pretrain", waiting)
    assert status == 1
    assert "not built yet" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["pretrain", "simcrl"], "did you mean simclr"),
        (["pretrain", "simclr:huge"], "it has paper, small"),
        (["pretrain", "simclr", "--data", "nowhere/"], "does not exist"),
        (["pretrain", "simclr", "--data", "digits", "lr"], "no key=value pair"),
        (["pretrain", "simclr", "--data", "digits", "method.temp=1"], "no field 'temp'"),
        (["pretrain", "simclr", "--data", "digits", "--encoder", "timm/resnot18"], "resn"),
        (["pretrain", "mine.py:recipe"], "no such recipe file"),
        (["evaluate", "runs/none"], "runs/none"),
        (["embed", "small", "--data", "digits", "--out", "x.jpg"], ".parquet"),
        (["export", "runs/none", "--to", "tensorflow"], "there are safetensors"),
    ],
)
def test_errors_are_one_line_with_a_remedy(capsys, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *arguments)
    assert status == 1
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert says in err


def test_an_unknown_option_is_told_by_the_parser(capsys):
    status, _, err = run(capsys, "pretrain", "simclr", "--epoch", "3")
    assert status == 2
    assert "--epochs" in err


def test_pretrain_leaves_a_run_that_tells_what_was_changed(trained):
    facts = json.loads((trained / "recipe.json").read_text())
    assert facts["name"] == "simclr:small"
    assert facts["overrides"]["steps"] == "3"


def test_embed_writes_every_image_with_its_path(capsys, trained, photos, tmp_path):
    out = tmp_path / "x.parquet"
    status, text, _ = run(capsys, "embed", trained, "--data", photos, "--out", out, "--json")
    assert status == 0
    assert json.loads(text)["samples"] == 80
    table = pyarrow.parquet.read_table(out).to_pydict()
    assert len(table["path"]) == 80
    assert any("ü" in path for path in table["path"])
    status, _, err = run(capsys, "embed", trained, "--data", photos, "--out", out)
    assert status == 1
    assert "--overwrite" in err


def test_embeddings_go_into_a_pipeline(capsys, trained, photos, tmp_path):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    out = tmp_path / "x.npy"
    run(capsys, "embed", trained, "--data", photos, "--out", out)
    x = np.load(out)
    label = np.repeat([0, 1], 40)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(x, label)
    assert model.score(x, label) > 0.9


def test_evaluate_prints_json_and_writes_a_report(capsys, trained, photos):
    status, out, _ = run(capsys, "evaluate", trained, "--protocols", "knn,linear", "--json")
    scores = json.loads(out)
    assert status == 0
    assert {"knn", "linear"} <= {row["protocol"].partition("/")[0] for row in scores["rows"]}
    assert (trained / "report.html").stat().st_size > 10_000
    assert (trained / "scores.json").is_file()


@pytest.mark.parametrize("to", ["safetensors", "onnx", "pt2"])
def test_export_writes_and_never_overwrites(capsys, trained, tmp_path, to):
    out = tmp_path / f"encoder.{to}"
    assert run(capsys, "export", trained, "--to", to, "--out", out)[0] == 0
    assert out.stat().st_size > 10_000
    status, _, err = run(capsys, "export", trained, "--to", to, "--out", out)
    assert status == 1
    assert "overwrite" in err


def test_from_a_folder_to_shards_and_their_index(capsys, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("UNLABELED_DATA", str(tmp_path / "cache"))
    out = tmp_path / "shards"
    status, said, _ = run(capsys, "data", "shard", photos, "--out", out, "--shard-size", 30)
    assert status == 0
    assert "80 images, 2 classes" in said
    facts = json.loads(run(capsys, "data", "index", out, "--json")[1])
    assert facts["samples"] == 80
    assert facts["classes"] == 2
    info = json.loads(run(capsys, "data", "info", out, "--json")[1])
    assert info["train"] + info["test"] == 80
    assert info["classes"] == ["cats", "dogs"]
    status, _, error = run(capsys, "data", "info", f"{out}/train-{{000000..000009}}.tar")
    assert status == 1
    assert "does not exist (7 of 10 shards are missing)" in error


def test_data_info_and_list_and_doctor(capsys, photos):
    facts = json.loads(run(capsys, "data", "info", photos, "--json")[1])
    assert facts["classes"] == ["cats", "dogs"]
    assert facts["train"] + facts["test"] == 80
    assert "digits" in {row["name"] for row in json.loads(run(capsys, "data", "list", "--json")[1])}
    assert "versions" in {row["what"] for row in json.loads(run(capsys, "doctor", "--json")[1])}


def test_the_module_runs_as_a_command():
    command = [sys.executable, "-m", "unlabeled", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "pretrain" in shown.stdout


def test_no_socket_is_opened(tmp_path):
    """Training, embedding and listing work where every connection is refused."""
    code = (
        "import socket\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\nsocket.create_connection = refuse\n"
        "socket.getaddrinfo = refuse\n"
        "from unlabeled.cli import main\n"
        "main(['pretrain', 'simclr', '--data', 'digits', '--out', 'run', 'steps=2'])\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    assert Path(tmp_path / "run" / "encoder.safetensors").is_file()


def test_taxonomy_groups_the_contrastive_rows(capsys):
    status, out, _ = run(capsys, "taxonomy", "--by", "loss", "--json")
    rows = json.loads(out)
    assert status == 0
    assert {row["stem"] for row in rows} >= {"simclr", "drlim", "byol"}
    order = list(dict.fromkeys(row["loss"] for row in rows))
    assert order.index("margin") < order.index("softmax") < order.index("redundancy")
    status, _, err = run(capsys, "taxonomy", "--by", "color")
    assert status != 0
    assert "there are similarity, encoder, head, loss" in err
