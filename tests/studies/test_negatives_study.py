import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from tests.tiny import tiny
from unlabeled.losses.contrastive import info_nce
from unlabeled.losses.similarities import info_nce_of
from unlabeled.methods.image.moco_v2 import small as moco_v2_small
from unlabeled.studies.negatives_study import KEPT, FilteredMoCo, band, random_share, report, small
from unlabeled.views.generator import SampleGenerator


def numbers(rows: int) -> SampleGenerator:
    return SampleGenerator(0, 0, torch.arange(rows))


def test_the_hardest_quarter_of_four_is_the_hardest_one():
    similarity = torch.tensor([[0.9, 0.5, 0.1, -0.3]])
    kept = band(similarity, numbers(1), low=0, high=25)
    assert kept.tolist() == [[True, False, False, False]]
    loss = info_nce_of(
        torch.tensor([0.7]), similarity.masked_fill(~kept, -torch.inf), temperature=1.0
    )
    expected = -math.log(math.exp(0.7) / (math.exp(0.7) + math.exp(0.9)))
    assert loss.item() == pytest.approx(expected)


def test_each_recipe_keeps_the_share_that_its_name_says():
    similarity = torch.randn(3, 2000)
    shares = {
        name: keep(similarity, numbers(3)).double().mean(1).tolist() for name, keep in KEPT.items()
    }
    expected = {
        "all": 1.0,
        "hardest_5": 0.05,
        "hardest_20": 0.2,
        "easiest_95": 0.95,
        "easiest_50": 0.5,
        "without_hardest_0.5": 0.995,
        "random_5": 0.05,
        "random_50": 0.5,
    }
    assert {name: share[0] for name, share in shares.items()} == pytest.approx(expected)
    assert all(len(set(share)) == 1 for share in shares.values()), "the same number a query"


def test_the_control_does_not_look_at_difficulty():
    similarity = torch.randn(2, 400)
    kept = random_share(similarity, numbers(2), percent=5)
    assert torch.equal(kept, random_share(-similarity, numbers(2), percent=5))
    assert not torch.equal(kept[0], kept[1])


def test_with_all_negatives_it_is_moco_v2():
    recipe = replace(tiny("moco_v2"), method=moco_v2_small().method)
    torch.manual_seed(0)
    plain = recipe.build()
    torch.manual_seed(0)
    filtered = replace(
        recipe, method=partial(FilteredMoCo, keep=KEPT["all"], **recipe.method.keywords)
    ).build()
    raw = recipe.data.split("train").__getitems__(list(range(16)))
    batch = recipe.views(raw, SampleGenerator(0, 0, raw["index"]))
    one, other = plain.loss(batch)["info_nce"], filtered.loss(batch)["info_nce"]
    torch.testing.assert_close(one, other)


def test_more_negatives_never_make_the_loss_smaller():
    q, k, bank = torch.randn(4, 8), torch.randn(4, 8), torch.randn(40, 8)
    bank = torch.nn.functional.normalize(bank, dim=1)
    similarity = torch.nn.functional.normalize(q, dim=1) @ bank.T
    positives = torch.nn.functional.cosine_similarity(q, k)
    losses = []
    for high in (5, 20, 50, 100):
        kept = band(similarity, numbers(4), low=0, high=high)
        negatives = similarity.masked_fill(~kept, -torch.inf)
        losses.append(info_nce_of(positives, negatives, temperature=0.2))
    assert losses == sorted(losses)
    torch.testing.assert_close(losses[-1], info_nce(q, k, bank, temperature=0.2))


def test_the_report_says_what_was_not_reproduced():
    linear = {name: [80.0, 80.0] for name in KEPT}
    lines = report({"linear": linear})
    assert [line.partition(":")[0] for line in lines] == [
        *["reproduced"] * 3,
        *["not reproduced"] * 2,
    ]
    lines = report({"linear": linear | {"easiest_95": [70.0, 71.0], "hardest_5": [60.0, 60.0]}})
    assert lines[0].startswith("not reproduced: the hardest 5 %")
    assert lines[3].startswith("reproduced: the easiest 95 %")


def test_the_study_differs_in_its_negatives_alone():
    recipes = small().recipes
    assert len({recipe.method.keywords["queue"] for recipe in recipes.values()}) == 1
    assert len(recipes) == len(KEPT)
