"""Any recipe at toy size: the same algorithm on a few small samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch

from unlabeled.data.clips import Clips
from unlabeled.data.digits import Digits
from unlabeled.data.factors import Factors
from unlabeled.data.graphs import GraphSource
from unlabeled.data.images import ArraySamples, ImageSource
from unlabeled.data.isomers import Isomers
from unlabeled.data.jumping import Jumping
from unlabeled.data.neighbors import Neighbors
from unlabeled.data.open_set import OpenSet
from unlabeled.data.rooms import RoomPairs
from unlabeled.data.shifted import Shifted
from unlabeled.data.source import ImageSpec
from unlabeled.data.spoken import Spoken
from unlabeled.data.still_life import StillLife
from unlabeled.data.texts import Document, TextSource
from unlabeled.encoders.causal import recurrent_encoder
from unlabeled.encoders.flow import pwc_lite
from unlabeled.encoders.graph import hgp_sl
from unlabeled.encoders.image import small_resnet
from unlabeled.encoders.patches import patch_resnet
from unlabeled.encoders.text import albert_encoder
from unlabeled.encoders.video import small_video
from unlabeled.encoders.vit import vit
from unlabeled.recipe import Recipe
from unlabeled.registry import find_recipe, stems
from unlabeled.trained import untrained

BATCH = 16
OWN_DATA = (Neighbors, Factors)
"""Sources that methods cannot do without, small as they are."""


@cache
def tiny(stem: str) -> Recipe:
    """small() with digits of 16 px, a narrow encoder and float32, ready to build."""
    recipe = find_recipe(f"{stem}:small")
    if isinstance(recipe.data, OWN_DATA):
        return replace(recipe, batch_size=BATCH, precision="32-true", epochs=1, steps=6).fitted()
    if isinstance(recipe.data, StillLife):
        return replace(
            recipe,
            data=StillLife(side=12, views=6, test_views=2),
            batch_size=BATCH,
            epochs=1,
            steps=6,
        ).fitted()
    if isinstance(recipe.data, TextSource):
        encoder = partial(albert_encoder, layers=2, dim=16, embedding=8, heads=2)
        return replace(
            recipe, data=Topics(), encoder=encoder, batch_size=BATCH, epochs=1, steps=6
        ).fitted()
    if isinstance(recipe.data, Spoken):
        encoder = partial(recurrent_encoder, bands=12, dim=16, layers=2)
        return replace(
            recipe,
            data=Spoken(train=160, test=16, seconds=0.3, speakers=4, words=6),
            encoder=encoder,
            batch_size=BATCH,
            epochs=1,
            steps=6,
        ).fitted()
    if isinstance(recipe.data, GraphSource):
        return replace(
            recipe,
            data=Isomers(count=300),
            encoder=partial(hgp_sl, width=8),  # the paper's network; small() has a plainer one
            batch_size=BATCH,
            epochs=1,
            steps=6,
        ).fitted()
    if isinstance(recipe.data, RoomPairs):
        sizes = {"widths": (4, 8, 8), "decoder": (8, 8, 8), "context": (8, 8), "features": 4}
        return replace(
            recipe,
            data=RoomPairs(height=16, width=32, train=60, test=2),
            encoder=partial(pwc_lite, **sizes, radius=2, skip=0),
            views=replace(recipe.views, unit=8, parts=12, holes=(1, 2)),
            batch_size=BATCH,
            epochs=1,
            steps=6,
        ).fitted()
    if isinstance(recipe.data, Clips):
        return replace(
            recipe,
            data=Clips(frames=4, side=32, train=120, test=4),
            encoder=partial(small_video, widths=(8, 16)),
            batch_size=BATCH,
            epochs=1,
            steps=6,
        ).fitted()
    if isinstance(recipe.data, Jumping):
        # batches of 16 runs need more than the nine tasks of small()
        data = replace(
            recipe.data,
            positions=(12, 31),
            floors=(2, 8),
            train_positions=tuple(range(12, 32)),
            train_floors=tuple(range(3, 9)),
        )
        return replace(recipe, data=data, batch_size=BATCH, epochs=3, steps=6).fitted()
    spec = recipe.data.spec()
    if not isinstance(spec, ImageSpec):
        raise ValueError(f"{stem}: say here what its modality's tiny data is")
    if isinstance(recipe.data, OpenSet):
        known = recipe.data.known if len(recipe.data.known) < 10 else (0, 1, 2, 3, 4)
        return replace(
            recipe,
            data=OpenSet(Shifted(Digits()), Digits(), known=known),
            method=untrained(recipe.method),
            encoder=narrow(recipe, widths=(8, 8, 16)),
            batch_size=BATCH,
            precision="32-true",
            epochs=1,
            steps=6,
        ).fitted()
    return replace(
        recipe,
        data=Digits() if spec.channels == 1 else ColoredDigits(),
        method=untrained(recipe.method),
        encoder=narrow(recipe, widths=(8, 8, 16)),
        batch_size=BATCH,
        precision="32-true",
        epochs=1,
        steps=6,
    ).fitted()


@dataclass(frozen=True, kw_only=True)
class ColoredDigits(ImageSource):
    """Digits on paper of one of six colors, for recipes of colored data."""

    image_size: int = 16

    @property
    def name(self) -> str:
        return "colored-digits"

    @property
    def classes(self) -> tuple[str, ...]:
        return Digits().classes

    def split(self, name: str) -> ArraySamples:
        gray = Digits(image_size=self.image_size).split(name)
        colors = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1]])
        paper = colors[torch.arange(len(gray)) * 7 % 6][:, :, None, None] * 0.8 + 0.2
        images = (paper * (255 - gray.images.float() * 0.9)).round().byte()
        return ArraySamples(images, label=gray.label)


@dataclass(frozen=True)
class Topics(TextSource):
    """The language reference alone, which needs no other files to be read."""

    @property
    def name(self) -> str:
        return "topics"

    @property
    def sizes(self) -> tuple[int, int]:
        return 300, 32

    @property
    def documents(self) -> list[Document]:
        from pydoc_data.topics import topics

        return [Document(key, text) for key, text in sorted(topics.items())]


def narrow(recipe: Recipe, *, widths: tuple[int, ...]) -> Any:
    """The small encoders with other widths; a recipe with one of its own kind keeps it."""
    return _narrow(recipe.encoder, widths)


def _narrow(builder: Any, widths: tuple[int, ...]) -> Any:
    if not isinstance(builder, partial):
        return builder
    if builder.func is small_resnet:
        stages = len(builder.keywords.get("blocks", widths))
        return partial(small_resnet, **{**builder.keywords, "widths": widths[-stages:]})
    if builder.func is patch_resnet:
        narrowed = {"widths": widths[1:], "stem_width": widths[0]}
        return partial(patch_resnet, **{**builder.keywords, **narrowed})
    if builder.func is vit:
        return partial(vit, dim=24, depth=2, heads=3, patch=4)
    # an encoder that is made of others: narrow those
    inner = {name: _narrow(value, widths) for name, value in builder.keywords.items()}
    return partial(builder.func, **inner)


__all__ = ["BATCH", "narrow", "stems", "tiny"]
