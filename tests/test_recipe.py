import json
from dataclasses import replace
from functools import partial

import pytest
import torch

from unlabeled.data.digits import Digits
from unlabeled.encoders.image import small_resnet
from unlabeled.method import Method
from unlabeled.methods.image.simclr import SimCLR
from unlabeled.recipe import PLAIN_1D, Optim, Recipe, describe, fingerprint, override, rebuild
from unlabeled.schedule import Clock, constant, cosine
from unlabeled.views.image import TwoViews, simclr_augment


def recipe() -> Recipe:
    return Recipe(
        method=partial(SimCLR, temperature=0.2),
        encoder=partial(small_resnet),
        data=Digits(),
        views=TwoViews(simclr_augment()),
        optim=Optim(
            kind=partial(torch.optim.SGD, momentum=0.9),
            lr=cosine(0.3, 0.003, warmup=10),
            weight_decay=constant(1e-4),
            rules=(PLAIN_1D,),
        ),
        epochs=10,
        batch_size=256,
    )


def test_text_and_back_is_the_same_recipe():
    text = json.dumps(describe(recipe()))
    again = rebuild(json.loads(text))
    assert describe(again) == describe(recipe())
    assert fingerprint(again) == fingerprint(recipe())
    assert isinstance(again.build(), SimCLR)


def test_a_fingerprint_follows_every_value():
    base = fingerprint(recipe())
    for key, value in {
        "method.temperature": 0.3,
        "optim.lr": 0.1,
        "optim.kind.momentum": 0.8,
        "views.first.flip": 0.1,
        "epochs": 11,
    }.items():
        assert fingerprint(override(recipe(), {key: value})) != base, key


def test_the_text_holds_defaults_so_that_a_stored_run_outlives_their_change():
    options = describe(recipe())["options"]
    assert options["encoder"]["options"]["widths"] == [32, 64, 256]
    assert options["method"]["options"]["dim"] == 128
    assert set(options["optim"]["options"]["kind"]["options"]) == {"momentum"}


def test_override_reads_text_and_keeps_a_schedules_shape():
    changed = override(recipe(), {"optim.lr": "0.6", "batch_size": "128"})
    assert changed.batch_size == 128
    assert changed.optim.lr(Clock(100, 100, 10)) == pytest.approx(0.006)
    assert changed.optim.lr(Clock(10, 100, 10)) == pytest.approx(0.6)


def test_override_names_the_nearest_field():
    with pytest.raises(ValueError, match=r"method\.temperatur.*did you mean temperature"):
        override(recipe(), {"method.temperatur": 0.1})
    with pytest.raises(ValueError, match="no field 'lern'"):
        override(recipe(), {"optim.lern": 0.1})
    with pytest.raises(ValueError, match="has no fields"):
        override(recipe(), {"epochs.x": 1})


def test_a_lambda_has_no_text():
    with pytest.raises(TypeError, match="no name that a recipe can store"):
        describe(replace(recipe(), method=lambda encoder: SimCLR(encoder)))


def test_positional_arguments_are_refused():
    with pytest.raises(TypeError, match="by name"):
        describe(partial(cosine, 0.3))


def test_a_method_that_asks_for_the_number_of_samples_gets_the_datas():
    asked = replace(recipe(), method=partial(Counting, samples=None))
    assert asked.build().samples == 1347
    assert asked.fitted().method.keywords == {"samples": 1347}
    assert asked.method.keywords == {"samples": None}
    assert replace(recipe(), method=partial(Counting, samples=5)).build().samples == 5


class Counting(Method):
    def __init__(self, encoder, *, samples):
        super().__init__(encoder)
        self.samples = samples

    def loss(self, batch):
        return {}
