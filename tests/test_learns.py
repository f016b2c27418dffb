"""small() recipes learn: on real digits, offline, each beats its random encoder over three seeds.

The figures of the README are measured on Fashion-MNIST by `unlabeled bench`; this is the same
claim at a size that CI can repeat. ``MARGINS`` are points of pooled kNN accuracy.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import mean

import pytest
import torch

from tests.tiny import stems
from unlabeled.data.digits import Digits
from unlabeled.evaluators.knn import Knn
from unlabeled.features import embed
from unlabeled.pretraining import fit_to_data, pretrain
from unlabeled.registry import find_recipe

STEPS = 150
MARGINS = dict.fromkeys(stems(), 2.0)


@pytest.mark.learns
@pytest.mark.parametrize("stem", stems())
def test_small_beats_its_random_encoder(stem, tmp_path):
    gains = [gain(stem, seed, tmp_path) for seed in range(3)]
    assert mean(gains) > MARGINS[stem], gains


def gain(stem: str, seed: int, folder) -> float:
    """Points of kNN on held-out digits that training adds to the same initial weights."""
    recipe, _ = fit_to_data(find_recipe(f"{stem}:small"), Digits(), fixed={"epochs": 1})
    recipe = replace(recipe, batch_size=128, epochs=100, steps=STEPS, seed=seed)
    torch.manual_seed(seed)
    start = recipe.fitted().build().encoder
    run = pretrain(recipe, out=folder / str(seed), logger=False, accelerator="cpu")
    return top1(run.model().encoder) - top1(start)


def top1(encoder) -> float:
    train, test = (embed(encoder, Digits(), split=split) for split in ("train", "test"))
    return Knn(k=20).score(train, test)[0].value
