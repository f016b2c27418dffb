import io
import json
from functools import partial

import pytest
import torch
from rich.console import Console

from tests.evaluators.fakes import FakeData, FakeEncoder
from unlabeled.data.source import raw_pixels
from unlabeled.evaluation import evaluate, evaluate_model
from unlabeled.evaluators.fewlabel import FewLabels
from unlabeled.evaluators.knn import Knn
from unlabeled.evaluators.supervised import Supervised
from unlabeled.features import embed

DATA = FakeData()
PROTOCOLS = (Knn(k=5), "linear", FewLabels(share=0.1, draws=2))


@pytest.fixture
def encoder():
    return FakeEncoder(DATA.spec())


def check(encoder, **options):
    defaults = {"data": DATA, "builder": FakeEncoder, "protocols": PROTOCOLS,
                "precision": "32-true", "device": "cpu"}  # fmt: skip
    return evaluate(encoder, **{**defaults, **options})


def pick(scores, name, protocol, readout="pooled", metric="top1"):
    (found,) = [
        row
        for row in scores.rows
        if (row.name, row.readout, row.metric) == (name, readout, metric)
        and row.protocol.startswith(protocol)
    ]
    return found


def test_the_encoder_and_its_floors_get_the_same_readouts_and_protocols(encoder):
    scores = check(encoder)
    names = list(dict.fromkeys(row.name for row in scores.rows))
    assert names == ["FakeEncoder", "raw input", "random weights"]
    keys = {
        name: [(r.protocol, r.readout, r.metric) for r in scores.rows if r.name == name]
        for name in names
    }
    assert len(keys["FakeEncoder"]) == 2 * (3 + 4)
    assert sorted(keys["raw input"]) == sorted(keys["FakeEncoder"])
    assert keys["random weights"] == keys["FakeEncoder"]
    assert scores.counts == {"train": 90, "test": 40}
    assert scores.classes == 3


def test_the_figures_are_those_of_the_evaluators(encoder):
    scores = check(encoder)
    ours = embed(encoder, DATA), embed(encoder, DATA, split="test")
    pixels = embed(raw_pixels, DATA), embed(raw_pixels, DATA, split="test")
    assert pick(scores, "FakeEncoder", "knn").value == Knn(k=5).score(*ours)[0].value
    assert pick(scores, "raw input", "knn").value == Knn(k=5).score(*pixels)[0].value
    fresh = []
    for seed in range(3):
        torch.manual_seed(seed)
        other = FakeEncoder(DATA.spec()).eval()
        fresh.append(Knn(k=5).score(embed(other, DATA), embed(other, DATA, split="test"))[0].value)
    found = pick(scores, "random weights", "knn")
    assert found.trials == pytest.approx(fresh)
    assert found.value == pytest.approx(sum(fresh) / 3)
    assert found.spread == pytest.approx(torch.tensor(fresh).std().item(), abs=1e-4)
    assert found.details["seeds"] == [0, 1, 2]


def test_json_holds_protocols_settings_and_counts(encoder):
    content = json.loads(json.dumps(check(encoder).to_json()))
    assert content["branch"] == "encoder"
    assert content["settings"]["random_seeds"] == 3
    assert "eval mode" in content["settings"]["random"]
    by = {(row["name"], row["protocol"], row["readout"]): row for row in content["rows"]}
    knn = by["FakeEncoder", "knn/instdisc-v1", "pooled"]
    assert knn["details"] == {"k": 5, "temperature": 0.07}
    assert (knn["train"], knn["test"], knn["unit"]) == (90, 40, "%")
    linear = by["FakeEncoder", "linear/lbfgs-v1", "grid2"]["details"]
    assert linear["strength"] in linear["strengths"]
    assert len(linear["held_out_top1"]) == len(linear["strengths"])
    assert len(content["comparisons"]) == 3 * 2 * 2
    assert len(content["sentences"]) == 13


def test_the_table_fits_a_terminal_and_shows_all_of_it(encoder):
    console = Console(width=100, file=io.StringIO())
    scores = check(encoder)
    console.print(scores.table())
    text = console.file.getvalue()
    assert "…" not in text
    for word in ("knn top1", "linear top1", "fewlabel 0.1 top1", "effective rank", "grid2"):
        assert word in text
    for each in scores.comparisons():
        mark = "" if each.shown else "?"
        assert f"({each.difference:+.1f}{mark})" in text
    assert f"{pick(scores, 'FakeEncoder', 'knn').value:.1f}" in text


def test_supervised_runs_stand_beside_probes_and_few_labels(encoder):
    short = Supervised(epochs=1, least_steps=30, lr=0.02)
    scores = check(encoder, supervised=short, random_seeds=1)
    whole = pick(scores, "supervised", "supervised", "end to end")
    few = pick(scores, "supervised", "fewlabel", "end to end")
    assert (whole.train, few.train) == (90, 9)
    assert len(few.trials) == 2
    assert pick(scores, "supervised", "knn", "grid2").train == 90
    assert not [
        row for row in scores.rows
        if row.name == "supervised" and row.protocol == "fewlabel/lbfgs-cv-v1"
    ]  # fmt: skip
    beside = [each.floor.protocol for each in scores.comparisons()]
    assert beside.count("fewlabel/supervised-adamw-v1") == 2


def test_without_labels_only_label_free_scores(encoder):
    data = FakeData(labeled=False)
    scores = check(encoder, data=data, supervised=True)
    assert {row.protocol for row in scores.rows} == {"labelfree/rankme-v1"}
    assert {row.name for row in scores.rows} == {"FakeEncoder", "raw input", "random weights"}
    assert "not whether they are useful" in scores.sentences()[0]
    assert len(scores.sentences()) == 1
    assert "test" not in data.reads


def test_the_same_call_gives_the_same_figures_and_leaves_the_state_alone(encoder):
    state = torch.get_rng_state()
    one, two = check(encoder, random_seeds=2), check(encoder, random_seeds=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert [row.value for row in one.rows] == [row.value for row in two.rows]
    assert encoder.training


def test_test_labels_never_choose(encoder, monkeypatch):
    split = FakeData.split
    one = check(encoder, floors=())

    def mixed(self, name):
        samples = split(self, name)
        if name == "test":
            samples.label = samples.label.flip(0)
        return samples

    monkeypatch.setattr(FakeData, "split", mixed)
    two = check(encoder, floors=())
    assert [row.details for row in one.rows] == [row.details for row in two.rows]
    assert [row.value for row in one.rows] != [row.value for row in two.rows]


def test_the_named_knn_fits_a_small_set():
    data = FakeData(train=12, test=6)
    scores = check(FakeEncoder(data.spec()), data=data, protocols=("knn",), floors=("raw",))
    assert pick(scores, "FakeEncoder", "knn").details["k"] == 12


def test_readouts_follow_the_encoder(encoder):
    wide = partial(FakeEncoder, dim=1500)
    scores = check(wide(DATA.spec()), protocols=("knn",), floors=())
    assert {row.readout for row in scores.rows} == {"pooled"}
    scores = check(encoder, protocols=("knn",), floors=(), readouts=("grid2",))
    assert {row.readout for row in scores.rows} == {"grid2"}


def test_errors(encoder):
    with pytest.raises(ValueError, match=r"no protocol 'knm': use knn, linear, fewlabel"):
        check(encoder, protocols=("knm",))
    with pytest.raises(ValueError, match=r"no floor 'zero': use raw or random"):
        check(encoder, floors=("zero",))
    with pytest.raises(ValueError, match=r"pass builder=..., or floors=\('raw',\)"):
        check(encoder, builder=None)
    with pytest.raises(ValueError, match="say on which data"):
        check(encoder, data=None)
    with pytest.raises(ValueError, match="a score needs two classes"):
        check(encoder, data=FakeData(kinds=1))
    with torch.no_grad():
        encoder.conv.bias[0] = torch.nan
    with pytest.raises(ValueError, match="feature of sample 0 is not finite"):
        check(encoder)


def test_evaluate_model_writes_scores_and_page(tmp_path):
    lines = []
    page = tmp_path / "deep" / "page.html"
    scores, found = evaluate_model(
        "small", data="digits", protocols=("knn",), report=page, say=lines.append
    )
    assert found == page
    assert scores.data in page.read_text()
    content = json.loads(page.with_name("scores.json").read_text())
    assert content == json.loads(json.dumps(scores.to_json()))
    assert lines[0].startswith("small: embedding")
