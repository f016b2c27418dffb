"""Any recipe at toy size: the same algorithm on a few small samples."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import Any

from unlabeled.data.digits import Digits
from unlabeled.data.source import ImageSpec
from unlabeled.encoders.image import small_resnet
from unlabeled.recipe import Recipe
from unlabeled.registry import find_recipe, stems

BATCH = 16


@cache
def tiny(stem: str) -> Recipe:
    """small() with digits of 16 px, a narrow encoder and float32, ready to build."""
    recipe = find_recipe(f"{stem}:small")
    if not isinstance(recipe.data.spec(), ImageSpec):
        raise ValueError(f"{stem}: say here what its modality's tiny data is")
    return replace(
        recipe,
        data=Digits(),
        encoder=narrow(recipe, widths=(8, 8, 16)),
        batch_size=BATCH,
        precision="32-true",
        epochs=1,
        steps=6,
    ).fitted()


def narrow(recipe: Recipe, *, widths: tuple[int, ...]) -> Any:
    """The small encoder with other widths; a recipe with an encoder of its own kind keeps it."""
    if isinstance(recipe.encoder, partial) and recipe.encoder.func is small_resnet:
        return partial(small_resnet, **{**recipe.encoder.keywords, "widths": widths})
    return recipe.encoder


__all__ = ["BATCH", "narrow", "stems", "tiny"]
