"""A study of two toy recipes, for tests of the registry and of `bench`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tests.toys import sgd, toy_recipe
from unlabeled.recipe import Study


def claim(scores: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    return [f"{len(scores['knn']['fast'])} seeds of fast"]


def small() -> Study:
    fast = replace(toy_recipe(steps=2), optim=sgd(0.02))
    return Study(
        recipes={"slow": toy_recipe(steps=2), "fast": fast},
        evaluators=("knn", "effective_rank"),
        report=claim,
    )
