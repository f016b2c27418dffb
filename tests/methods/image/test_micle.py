import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from unlabeled import registry
from unlabeled.data.cases import Photographed
from unlabeled.data.digits import Digits
from unlabeled.encoders.image import small_resnet
from unlabeled.losses.contrastive import nt_xent
from unlabeled.method import Clock
from unlabeled.methods.image import micle, simclr
from unlabeled.methods.image.micle import MICLe
from unlabeled.pretraining import pretrain
from unlabeled.trained import Trained
from unlabeled.views.multi_instance import MultiInstance, SingleInstance

BASE = partial(small_resnet, widths=(8, 8, 16))
DATA = Photographed(Digits())


def tiny(recipe):
    return replace(
        recipe, encoder=BASE, data=DATA, batch_size=32, epochs=1, steps=4, precision="32-true"
    )


def test_n_cases_are_n_pairs(given, pair):
    method = MICLe(given(2), start=None, dim=2)
    method.projector = torch.nn.Identity()
    z = torch.tensor([[0.6, 0.8]]).repeat(4, 1)
    (value,) = method.loss(pair(z, z)).values()
    assert value.item() == pytest.approx(math.log(7), rel=1e-5)
    one, two = torch.randn(5, 2), torch.randn(5, 2)
    (value,) = method.loss(pair(one, two)).values()
    torch.testing.assert_close(value, nt_xent(one, two, temperature=0.1))


def test_each_stage_starts_from_the_one_before_with_a_new_head(tmp_path, monkeypatch):
    stages = {"simclr:small": simclr.small, "micle:domain": micle.domain}
    monkeypatch.setenv("UNLABELED_DATA", str(tmp_path))
    monkeypatch.setattr(registry, "find_recipe", lambda name: tiny(stages[name]()))
    start = Trained(recipe="micle:domain")
    method = MICLe(BASE(DATA.spec()), start=start)
    assert len(list((tmp_path / "trained").iterdir())) == 2
    weights = start.weights()
    for name, value in method.encoder.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert any(name.endswith("running_mean") for name in weights)
    again = MICLe(BASE(DATA.spec()), start=start)
    assert not torch.equal(again.projector[0].weight, method.projector[0].weight)


def test_it_trains_on_cases(tmp_path):
    quiet = {"logger": False, "checkpoint_seconds": 1e9, "accelerator": "cpu"}
    run = pretrain(tiny(micle.small()), out=tmp_path / "run", **quiet)
    assert run.finished


def test_recipes_are_the_stages():
    with torch.device("meta"):
        for make in (micle.generic_paper, micle.domain_paper, micle.paper):
            assert all(value.is_meta for value in make().build().parameters())
    recipe = micle.paper()
    assert (recipe.batch_size, recipe.steps) == (128, 100_000)
    assert recipe.optim.lr(Clock(5000, 100_000, 500)) == pytest.approx(0.3)
    for last, kind, before in (
        (micle.paper(), MultiInstance, "micle:domain_paper"),
        (micle.domain_paper(), SingleInstance, "micle:generic_paper"),
        (micle.warm(), MultiInstance, "micle:domain"),
        (micle.domain(), SingleInstance, "simclr:small"),
    ):
        assert isinstance(last.views, kind)
        assert last.method.keywords["start"].recipe == before
