from dataclasses import replace
from functools import partial

import torch

from tests.tiny import tiny
from unlabeled import pretraining, registry
from unlabeled.encoders.image import small_resnet
from unlabeled.trained import Trained


def test_trains_once_and_leaves_the_random_numbers_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("UNLABELED_DATA", str(tmp_path))
    monkeypatch.setattr(registry, "find_recipe", lambda name: replace(tiny(name[:-6]), steps=2))
    trained = Trained(recipe="simclr:small", encoder=partial(small_resnet, widths=(8, 8, 32)))
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    weights = trained.weights()
    assert torch.equal(torch.rand(2), expected)
    assert weights["net.stem.0.weight"].shape == (8, 1, 3, 3)
    assert trained.folder.parent == tmp_path / "trained"
    monkeypatch.setattr(pretraining, "pretrain", None)  # a second training would fail
    again = trained.weights()
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    assert replace(trained, seed=1).folder != trained.folder
    assert Trained(recipe="simclr:small").folder != trained.folder


def test_a_finished_run_is_loaded_and_made_afresh_without_its_first_stage(tmp_path, monkeypatch):
    """The random floor of a second stage has a random first stage, and loading trains nothing."""
    monkeypatch.setattr(Trained, "weights", None)  # a call would fail
    recipe = replace(tiny("seed"), steps=1)
    run = pretraining.pretrain(recipe, out=tmp_path / "run", logger=False, accelerator="cpu")
    named = partial(
        recipe.method.func, **{**recipe.method.keywords, "teacher": Trained(recipe="x")}
    )
    model = replace(run.model(), recipe=replace(run.recipe, method=named))
    model.afresh(model.encoder.spec, seed=0)
