import json
from functools import partial

import pytest
import torch
from rich.console import Console

from tests.evaluators.fakes import FakeData, FakeEncoder
from unlabeled.artifacts import Model
from unlabeled.compare import compare, entries_of
from unlabeled.evaluation import evaluate
from unlabeled.evaluators.clustering import Clustering
from unlabeled.evaluators.knn import Knn
from unlabeled.ops.ranks import rank_correlation
from unlabeled.pretraining import pretrain

DATA = FakeData()
ALIKE = {"data": DATA, "protocols": (Knn(k=5), "linear"), "precision": "32-true", "device": "cpu"}


def model(seed, name):
    torch.manual_seed(seed)
    return Model(FakeEncoder(DATA.spec()).eval(), name, FakeEncoder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        pretrain("simclr", data="digits", epochs=0.2, seed=seed, out=folder / "simclr" / str(seed))
    pretrain("simsiam", data="digits", epochs=0.2, out=folder / "simsiam")
    return folder


def test_each_model_has_the_figures_that_evaluate_gives_it():
    found = compare([model(0, "a"), model(1, "b")], **ALIKE)
    alone = evaluate(model(1, "b"), floors=(), readouts=("pooled",), **ALIKE)
    ours = {(r.protocol, r.metric): r.value for r in found.rows if r.name == "b"}
    assert ours == {(r.protocol, r.metric): r.value for r in alone.rows}


def test_one_architecture_has_its_floors_once():
    found = compare([model(0, "a"), model(1, "b")], **ALIKE)
    names = [row.name for row in found.rows if row.protocol.startswith("knn")]
    assert names == ["a", "b", "raw input", "random weights"]


def test_each_architecture_has_its_random_floor():
    wide = partial(FakeEncoder, dim=9)
    other = Model(wide(DATA.spec()).eval(), "wide", wide)
    found = compare([model(0, "a"), other], **ALIKE)
    names = [row.name for row in found.rows if row.protocol.startswith("knn")]
    assert names == ["a", "wide", "raw input", "random weights, a", "random weights, wide"]


def test_a_sentence_a_score_says_what_is_shown():
    good, bad = model(0, "good"), model(0, "bad")
    with torch.no_grad():
        for value in bad.encoder.parameters():
            value.zero_()
    found = compare([bad, good], **ALIKE)
    knn = next(text for text in found.sentences() if text.startswith("knn"))
    assert "good leads" in knn
    assert "over bad by" in knn
    same = compare([model(0, "a"), model(0, "b")], **ALIKE)
    assert all("not told apart from it: b by 0.0" in text for text in same.sentences()[:2])


def test_without_seeds_and_samples_no_difference_is_claimed():
    options = {**ALIKE, "protocols": (Clustering(),)}
    found = compare([model(0, "a"), model(1, "b")], **options)
    assert all("spread not known" in text for text in found.sentences()[:-1])


def test_runs_that_differ_in_their_seed_are_one_entry(runs):
    found = compare([runs / "simclr", runs / "simsiam"], protocols=("knn",), floors=())
    first, second = found.entries
    assert (len(first.members), len(second.members)) == (2, 1)
    assert first.name == "simclr:small"
    knn = next(row for row in found.rows if row.protocol.startswith("knn"))
    each = [
        evaluate(run, protocols=("knn",), floors=(), readouts=("pooled",)).rows[0].value
        for run in (runs / "simclr" / "0", runs / "simclr" / "1")
    ]
    assert knn.trials == pytest.approx(each)
    assert knn.spread == pytest.approx(torch.tensor(each).std().item(), abs=1e-4)
    content = json.loads(json.dumps(found.to_json()))
    assert content["entries"][0]["training_seconds"] > 0
    console = Console(width=160)
    with console.capture() as text:
        console.print(found.table())
    assert f"{first.parameters:,}" in text.get()


def test_runs_named_one_by_one_are_grouped_too(runs):
    entries = entries_of([runs / "simclr" / "0", runs / "simsiam", runs / "simclr" / "1"])
    assert [len(entry.members) for entry in entries] == [2, 1]


def test_two_networks_of_one_architecture_are_two_entries():
    entries = entries_of([model(0, "a").encoder, model(1, "b").encoder])
    assert [len(entry.members) for entry in entries] == [1, 1]


def test_what_cannot_be_compared_is_said(runs, tmp_path):
    with pytest.raises(ValueError, match="two models or more"):
        compare([runs / "simclr"], protocols=("knn",))
    with pytest.raises(ValueError, match="neither a run nor runs in it"):
        compare([tmp_path, runs / "simsiam"])
    with pytest.raises(ValueError, match="say on which data"):
        compare(["timm/resnet18", "timm/resnet26"])


def test_scores_without_labels_are_held_against_the_order_of_the_linear_probe():
    models = [model(seed, f"m{seed}") for seed in range(5)]
    for depth, each in enumerate(models):
        with torch.no_grad():
            each.encoder.conv.weight[: depth + 1] = 0  # fewer features, less rank, less accuracy
    found = compare(models, **ALIKE)
    report = found.ranks()
    linear = {r.name: r.value for r in found.rows if r.protocol.startswith("linear")}
    rank = {r.name: r.value for r in found.rows if r.metric == "effective_rank"}
    names = [each.name for each in models]
    line = next(each for each in report.lines if each.name == "effective rank")
    assert line.agreement == rank_correlation(
        [rank[each] for each in names], [linear[each] for each in names]
    )
    assert line.agreement.rho > 0.7
    assert any(text.startswith("order of 5 entries") for text in found.sentences())
    assert found.to_json()["ranks"] == report.to_json()
    assert compare(models[:3], **ALIKE).ranks().lines == ()
