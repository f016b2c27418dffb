"""small() recipes learn: each beats its random encoder on its data.

The figures of the README are measured at full size and with three seeds by `unlabeled bench`; here
a narrow encoder sees 25,600 images, so that CI can repeat the claim in seconds, with one seed
(`make learns`: with three). Judged by the recipe's own evaluator or kNN, inside the training
split: the first 5,000 images classify the next 1,000. ``MARGINS`` are points.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from statistics import mean

import pytest
import torch

from tests.tiny import Topics, narrow, stems
from unlabeled import catalog
from unlabeled.bench import RESULTS
from unlabeled.data import get
from unlabeled.data.clips import Clips
from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.rooms import RoomPairs
from unlabeled.data.source import DataSource
from unlabeled.data.spoken import Spoken
from unlabeled.data.stickers import Stickers
from unlabeled.data.turned import Turned, turn
from unlabeled.encoders.flow import pwc_lite
from unlabeled.encoders.image import small_resnet
from unlabeled.evaluators.correspondence import Correspondence
from unlabeled.evaluators.evaluator import FeatureEvaluator
from unlabeled.evaluators.flow import FlowError
from unlabeled.evaluators.frames import FrameProbe
from unlabeled.evaluators.knn import Knn
from unlabeled.evaluators.masked_text import MaskedText
from unlabeled.evaluators.propagation import Propagation
from unlabeled.features import Features
from unlabeled.pretraining import pretrain
from unlabeled.recipe import fingerprint
from unlabeled.registry import find_recipe
from unlabeled.trained import Trained

STEPS, BATCH, WIDTHS = 200, 128, (8, 16, 64)
ENCODERS = {
    "dino": partial(small_resnet, widths=WIDTHS),
    "arflow": partial(
        pwc_lite,
        widths=(8, 16, 24, 32),
        decoder=(32, 32, 24, 16),
        context=(24, 24, 16),
        radius=3,
        features=16,
        skip=0,
    ),
}
"""A transformer takes more steps, and the network of flow more time."""
OWN_STEPS = {"cssl_graph": 600, "arflow": 150, "crw": 60, "densecl": 120}
WHOLE = ("nerf", "pse", "albert", "apc", "cssl_graph", "arflow", "crw", "densecl", "bigbigan")
"""Recipes without a narrow form: so many steps of their own batches, or `OWN_STEPS`."""
LESS = {
    "albert": (Topics(), (MaskedText(),)),
    "arflow": (RoomPairs(train=120, test=20), (FlowError(),)),
    "densecl": (Stickers(train=1500, test=200), (Correspondence(),)),
    "crw": (Clips(train=200, test=16), (Propagation(),)),
    "apc": (Spoken(train=300, test=100), (FrameProbe(frames=2000),)),
}
"""Less data of the same kind, and what judges it."""
SEEDS = int(os.environ.get("UNLABELED_SEEDS", "1"))
MARGINS = {
    "simclr": 4.0,
    "moco": 2.0,
    "moco_v2": 2.0,
    "byol": 2.0,
    "swav": 2.0,
    "simsiam": 2.0,
    "barlow_twins": 4.0,
    "debiased_cl": 2.0,
    "adpclr": 2.0,
    "eqco": 2.0,
    "mochi": 2.0,
    "cmc": 1.0,
    "un_mix": 2.0,
    "feature_lenses": 5.0,
    "looc": 1.0,
    "cpc": 2.0,
    "cpc_v2": 2.0,
    "yadim": 2.0,
    "seer": 1.0,
    "drlim": 5.0,
    "cl_ica": 5.0,
    "moco_v3": 2.0,
    "simclr_v2": 2.0,
    "micle": 2.0,
    "jigsaw": 2.0,
    "seed": 2.0,
    "dino": 1.0,
    "sela": 2.0,
    "ros": 2.0,
    "nerf": 5.0,
    "ssd_outlier": 2.0,
    "albert": 50.0,
    "pse": 5.0,
    "apc": 2.0,
    "cssl_graph": 5.0,
    "arflow": 2.0,
    "crw": 15.0,
    "densecl": 2.0,
    "bigbigan": 1.0,
}
PRESETS = {"micle": "clothes", "ros": "separation"}
"""What a narrow encoder learns in so few steps, where `small()` takes more."""
MAIN = {"densecl": "correspondence"}
"""Scores that a paper is about, where it is not kNN; the card says what kNN does."""
BARELY = ("seer",)
"""Measured with a gain of less than 2 points; the card says how little."""


@pytest.fixture(scope="module")
def clothes() -> FashionMnist:
    get("fashion-mnist")  # 31 MB from the first place that has it; nothing if it is here
    get("emoji")  # 18 MB
    return FashionMnist()


@pytest.mark.learns
@pytest.mark.parametrize("stem", stems())
def test_small_beats_its_random_encoder(stem, clothes, tmp_path):
    gains = [gain(stem, seed, clothes, tmp_path) for seed in range(SEEDS)]
    assert mean(gains) > MARGINS[stem], gains
    assert min(gains) > 0, gains


def gain(stem: str, seed: int, data: FashionMnist, folder) -> float:
    """Points of kNN that training adds to the same initial weights."""
    recipe = find_recipe(f"{stem}:{PRESETS.get(stem, 'small')}")
    data = data if recipe.data == FashionMnist() else recipe.data
    if stem not in WHOLE:
        recipe = replace(
            recipe,
            data=data,
            method=narrow_host(recipe.method, widths=WIDTHS),
            encoder=ENCODERS.get(stem) or narrow(recipe, widths=WIDTHS),
            batch_size=BATCH,
        )
    elif stem in ENCODERS:
        recipe = replace(recipe, encoder=ENCODERS[stem])
    if stem in LESS:
        data, judges = LESS[stem]
        recipe = replace(recipe, data=data, evaluate=judges)
    recipe = replace(recipe, steps=OWN_STEPS.get(stem, STEPS), seed=seed)
    judge = recipe.evaluate[0] if recipe.evaluate else Knn(k=20)
    if judge == "knn":
        judge = Knn(k=20)
    if judge.needs != "embed":
        run = pretrain(recipe, out=folder / str(seed), logger=False, accelerator="cpu")
        model = run.model()
        fresh = model.afresh(model.encoder.spec, seed=seed)
        own, random = (judge.judge(each.predictor(judge.needs), data)[0] for each in (model, fresh))
        return own.value - random.value if own.higher_is_better else random.value - own.value
    torch.manual_seed(seed)
    start = recipe.fitted().build().encoder
    run = pretrain(recipe, out=folder / str(seed), logger=False, accelerator="cpu")
    return score(run.model().encoder, data, judge) - score(start, data, judge)


def narrow_host(method, *, widths: tuple[int, ...]):
    """The method whose first stage is as narrow as the encoder of the test."""
    teacher = method.keywords.get("teacher")
    if isinstance(teacher, Trained):
        encoder = partial(method.keywords["teacher_encoder"].func, widths=widths)
        first = {"teacher": replace(teacher, encoder=encoder), "teacher_encoder": encoder}
        return partial(method.func, **{**method.keywords, **first})
    host = method.keywords.get("host")
    if not isinstance(host, Trained):
        return method
    encoder = partial(host.encoder.func, **{**host.encoder.keywords, "widths": widths})
    return partial(method.func, **{**method.keywords, "host": replace(host, encoder=encoder)})


def score(encoder, data: DataSource, judge: FeatureEvaluator) -> float:
    """Five sixths of up to 6,000 training images classify the rest, turned where the test is."""
    count = min(6000, data.size("train"))
    bank = count * 5 // 6
    samples = data.split("train")
    known = samples.__getitems__(list(range(bank)))
    asked = samples.__getitems__(list(range(bank, count)))
    found = []
    encoder.eval()
    for raw in (known, turn(asked) if isinstance(data, Turned) else asked):
        with torch.inference_mode():
            x = data.prepare(encoder.spec)(raw)
            rows = torch.cat([encoder(part) for part in x.split(500)])
        found.append(Features(rows, raw.get("label"), factors=raw.get("factors")))
    return judge.score(*found)[0].value


MEASURED = [stem for stem in stems() if catalog.results(stem)]


@pytest.mark.parametrize("stem", MEASURED)
def test_the_stored_figures_beat_the_random_encoder_for_every_seed(stem):
    """What `unlabeled bench` stored is of today's recipe, and shows learning with three seeds."""
    result = catalog.results(stem)["small"]
    assert result.fingerprint == fingerprint(find_recipe(f"{stem}:small")), "measure it again"
    assert len(result.seeds) >= 3
    score = MAIN.get(stem, result.main)
    own, random = result.scores[score]["encoder"], result.scores[score]["random"]
    sign = 1 if result.protocols[score]["higher_is_better"] else -1
    gained = min(sign * (a - b) for a, b in zip(own, random, strict=True))
    assert gained > (0.0 if stem in BARELY else 2.0)
    assert catalog.status(stem) == "measured"


def test_what_is_not_measured_says_so():
    assert len(MEASURED) >= 7
    for stem in set(stems()) - set(MEASURED):
        assert catalog.status(stem) == "implemented"


def test_stored_results_are_plain_json():
    for path in RESULTS.glob("*.json"):
        assert json.loads(path.read_text())["commit"].strip("+")
