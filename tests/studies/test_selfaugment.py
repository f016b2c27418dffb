import json

import pytest
import torch

from tests.evaluators.fakes import FakeData, FakeEncoder
from unlabeled.policy_search import (
    Judged,
    random_policy,
    read_policy,
    scored,
    search,
)
from unlabeled.studies.selfaugment import AUGMENTS, FOUND, paper, report, small
from unlabeled.views.policy import check_policy

NAMES = (*small().recipes, "random", "raw")


def test_the_score_weighs_both_losses_by_their_means():
    found = [Judged((), 1.0, 6.0), Judged((), 3.0, 2.0)]
    assert scored(found, "minimax").tolist() == pytest.approx([6 / 4 - 1 / 2, 2 / 4 - 3 / 2])
    assert scored(found, "min_rotation").tolist() == [-1.0, -3.0]
    assert scored(found, "max_contrast").tolist() == [6.0, 2.0]
    with pytest.raises(ValueError, match="use one of minimax"):
        scored(found, "best")


def test_random_policies_have_known_operations():
    policy = random_policy(torch.Generator().manual_seed(0), subs=5, steps=2, colored=False)
    check_policy(policy)
    assert [len(sub) for sub in policy] == [2] * 5
    assert not any(step.operation == "color" for sub in policy for step in sub)


def test_the_search_joins_the_best_and_writes_them(tmp_path):
    data = FakeData(train=90, labeled=False, side=16)
    torch.manual_seed(0)
    encoder = FakeEncoder(data.spec()).eval()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    options = {"tried": 4, "kept": 2, "subs": 3, "rows": 40, "tests": 20}
    found = search(encoder, data, out=tmp_path / "policy.json", **options)
    assert len(found) == 6
    assert read_policy(tmp_path / "policy.json") == found
    assert json.loads((tmp_path / "policy.json").read_text())["objective"] == "minimax"
    assert search(encoder, data, **options) == found
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert search(encoder, data, unseen=range(60, 90), **options) != ()
    with pytest.raises(ValueError, match="the search needs"):
        search(encoder, data, rows=80, tests=20)


def test_the_report_holds_each_claim_against_its_figures():
    order = {name: [50.0 + n] for n, name in enumerate(NAMES)}
    mixed = {name: [float(n * 7 % 10)] for n, name in enumerate(NAMES)}
    scores = {"linear": order, "rotation": order, "jigsaw_probe": mixed, "contrast_loss": mixed}
    lines = report(scores)
    assert lines[0].startswith("shown: rotations")
    assert lines[1].startswith("shown: better than quarters")
    assert "0.0 ahead" in lines[2]
    turned = {name: [-value[0]] for name, value in order.items()}
    lines = report({**scores, "rotation": turned})
    assert all(line.startswith("not shown") for line in lines[:3])


def test_models_differ_in_views_and_length():
    study = small()
    assert len(study.recipes) == 9
    assert set(AUGMENTS) < set(study.recipes) == set(paper().recipes)
    assert study.recipes["default_tenth"].epochs == pytest.approx(0.1)
    check_policy(study.recipes["policy"].views.policy)
    assert len(FOUND) == 25
