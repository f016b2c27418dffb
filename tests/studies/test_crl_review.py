from dataclasses import replace

import pytest
import torch

from tests.tiny import narrow, tiny
from unlabeled.method import Method
from unlabeled.recipe import Recipe
from unlabeled.studies.crl_review import (
    LOSSES,
    LabelContrast,
    hardest_share,
    in_batch_nce,
    report,
    small,
)
from unlabeled.views.generator import SampleGenerator

RECIPES = small().recipes


def toy(recipe: Recipe) -> tuple[Method, dict]:
    base = tiny("simclr")
    recipe = replace(recipe, data=base.data, encoder=narrow(recipe, widths=(8, 8, 16))).fitted()
    torch.manual_seed(0)
    raw = recipe.data.split("train").__getitems__(list(range(16)))
    return recipe.build(), recipe.views(raw, SampleGenerator(0, 0, raw["index"]))


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_has_a_finite_loss_and_a_gradient_for_the_encoder(name):
    method, batch = toy(RECIPES[name])
    loss = sum(method.loss(batch).values())
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)
    assert sum(float(p.grad.abs().sum()) for p in method.encoder.parameters()) > 0


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_falls_when_positives_rise_and_negatives_fall(name):
    generator = torch.Generator().manual_seed(0)
    positives = (torch.rand(8, generator=generator) * 0.6).requires_grad_()
    negatives = (torch.rand(8, 14, generator=generator) * 0.6).requires_grad_()
    LOSSES[name](positives, negatives).backward()
    assert (positives.grad <= 0).all()
    assert (negatives.grad >= 0).all()
    assert positives.grad.sum() < 0 < negatives.grad.sum()


def test_nce_knows_its_positive():
    positives, negatives = torch.full((4,), 0.9), torch.full((4, 6), -0.9)
    assert in_batch_nce(positives, negatives) < in_batch_nce(-positives, -negatives)


def test_hardest_share_of_all_is_info_nce():
    positives, negatives = torch.rand(4), torch.rand(4, 10)
    torch.testing.assert_close(
        hardest_share(positives, negatives, percent=100.0),
        LOSSES["info_nce"](positives, negatives),
    )


def test_only_the_recipe_of_classes_reads_labels():
    method, batch = toy(RECIPES["similar_classes"])
    assert isinstance(method, LabelContrast)
    other = {**batch, "label": torch.zeros_like(batch["label"])}
    state = {name: value.clone() for name, value in method.state_dict().items()}
    one = method.loss(batch)["contrast"]
    method.load_state_dict(state)
    assert method.loss(other)["contrast"] != one
    method, batch = toy(RECIPES["info_nce"])
    batch.pop("label")
    method.loss(batch)


def test_the_report_names_what_is_shown_and_what_is_not():
    linear = {name: [80.0] for name in RECIPES} | {"random": [79.0], "raw": [84.0]}
    lines = report({"linear": linear})
    assert (
        lines[0] == f"{len(RECIPES)} of {len(RECIPES)} recipes are above the random encoder (79.0)"
    )
    assert all(line.startswith("not shown") for line in lines[1:])
    lines = report({"linear": linear | {"info_nce": [85.0]}})
    assert lines[1].startswith("shown: softmax losses")
    assert lines[3].startswith("shown: the softmax needs its temperature")
