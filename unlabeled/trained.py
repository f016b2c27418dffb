"""Trained: the encoder that another recipe leaves behind, for papers in two stages."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

LOG = logging.getLogger("unlabeled")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The weights of a run of ``recipe``, which is trained where it has not been yet.

    Runs lie in ``trained/`` of our cache folder, each under its recipe's name and fingerprint, so
    that all recipes and seeds that name the same one share it.

    Args:
        recipe: ``stem:preset``.
        encoder: builder that takes the place of the recipe's; None keeps it.
        seed: of that run.
    """

    recipe: str
    encoder: Any = None
    seed: int = 0

    @property
    def folder(self) -> Path:
        """Where the run lies."""
        from unlabeled.data.images import cache_folder
        from unlabeled.recipe import fingerprint

        name = f"{self.recipe.replace(':', '-')}-{fingerprint(self._recipe())}"
        return cache_folder("trained") / name

    def weights(self) -> dict[str, Tensor]:
        """Return the encoder's state; trains first where there is no finished run."""
        from unlabeled.artifacts import Run
        from unlabeled.pretraining import pretrain

        folder = self.folder
        with torch.random.fork_rng():  # the run that asked goes on as if nothing had happened
            if not Run(folder).finished:
                LOG.warning("training %s first, into %s", self.recipe, folder)
                pretrain(self._recipe(), out=folder, logger=False)
            return Run(folder).model().encoder.state_dict()

    def method_weights(self, part: str) -> dict[str, Tensor]:
        """Return the state of one part of the method, such as its ``projector``; trains first.

        Raises:
            ValueError: the method has no such part, or the run is of before methods were kept.
        """
        self.weights()
        path = self.folder / "method.safetensors"
        if not path.is_file():
            raise ValueError(f"{self.folder} does not hold its whole method: delete it")
        state = load_file(str(path))
        prefix = f"{part}."
        found = {
            name.removeprefix(prefix): value
            for name, value in state.items()
            if name.startswith(prefix)
        }
        if not found:
            raise ValueError(f"{self.recipe} has no {part!r}: name a part of its method")
        return found

    def _recipe(self) -> Any:
        from unlabeled.registry import find_recipe

        recipe = replace(find_recipe(self.recipe), seed=self.seed)
        return recipe if self.encoder is None else replace(recipe, encoder=self.encoder)


def untrained(method: Any) -> Any:
    """Return a recipe's method without its first stages: their networks keep random weights."""
    if not isinstance(method, partial):
        return method
    options = {
        name: None if isinstance(value, Trained) else value
        for name, value in method.keywords.items()
    }
    return partial(method.func, *method.args, **options)
