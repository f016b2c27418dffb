from pathlib import Path

import pytest

from unlabeled import floors
from unlabeled.bench import bench
from unlabeled.evaluation import evaluate

STUDY = str(Path(__file__).with_name("toy_study.py"))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    said = []
    found = bench(
        f"{STUDY}:small",
        seeds=2,
        out=tmp_path_factory.mktemp("study"),
        overrides={"precision": "32-true"},
        say=said.append,
    )
    return *found, said


def test_a_study_has_a_branch_a_recipe_and_its_floors_once(measured):
    result, _, _ = measured
    assert list(result["scores"]) == ["knn", "effective_rank", "seconds"]
    for score in ("knn", "effective_rank"):
        assert set(result["scores"][score]) == {"slow", "fast", "random", "raw"}
        assert all(len(values) == 2 for values in result["scores"][score].values())
    assert set(result["scores"]["seconds"]) == {"slow", "fast"}
    assert result["protocols"]["knn"]["metric"] == "top1"
    assert result["protocols"]["effective_rank"]["higher_is_better"]


def test_a_study_says_what_its_figures_show(measured):
    result, _, said = measured
    assert result["report"] == ["2 seeds of fast"]
    assert said[-1] == "2 seeds of fast"


def test_figures_of_changed_fields_are_not_stored(measured):
    assert measured[1] is None


def test_the_arms_of_a_study_are_trained_apart(measured):
    scores = measured[0]["scores"]["effective_rank"]
    assert scores["slow"] != scores["fast"]


def test_floors_are_judged_once_and_again_when_anything_they_depend_on_changes(
    measured, tmp_path, monkeypatch
):
    asked = []

    def spy(*args, **options):
        asked.append(sorted(options["floors"]))
        return evaluate(*args, **options)

    monkeypatch.setattr("unlabeled.bench.evaluate", spy)
    options = {"seeds": 1, "out": tmp_path, "overrides": {"precision": "32-true"}}
    first = bench(f"{STUDY}:small", say=list, **options)[0]
    again = bench(f"{STUDY}:small", say=list, **options)[0]
    assert asked == [["random", "raw"], [], [], []]
    assert again["scores"]["knn"] == first["scores"]["knn"]
    assert first["scores"]["knn"]["random"] == measured[0]["scores"]["knn"]["random"][:1]
    monkeypatch.setattr(floors, "_code", lambda: "another")
    bench(f"{STUDY}:small", say=list, **options)
    assert asked[4:] == [["random", "raw"], []]
