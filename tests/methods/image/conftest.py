"""Encoders of known output, and what optimizers do during a short run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from lightning import Callback
from torch import Tensor, nn

from unlabeled.data.digits import Digits
from unlabeled.data.source import ImageSpec
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import small_resnet
from unlabeled.method import Batch
from unlabeled.pretraining import pretrain
from unlabeled.recipe import Recipe

SPEC = ImageSpec(channels=1, size=16, mean=(0.5,), std=(0.5,))


class Given(Encoder):
    """The features are the input: tests choose them, [B, dim]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def local(self, x: Tensor) -> Tensor:
        return x[:, None]

    def pool(self, local: Tensor) -> Tensor:
        return local.mean(1)


@pytest.fixture
def given() -> Callable[[int], Encoder]:
    return Given


@pytest.fixture
def no_head() -> Callable[[int, int], nn.Module]:
    return lambda width, dim: nn.Identity()


@pytest.fixture
def encoder() -> Encoder:
    return small_resnet(SPEC, widths=(8, 8, 16))


@pytest.fixture
def views() -> Callable[..., Batch]:
    """views(8) is a batch of two views of 8 images; views(8, sizes=(16, 16, 8)) of three."""

    def make(count: int, *, sizes: tuple[int, ...] = (16, 16), seed: int = 0) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        drawn = [torch.randn(count, 1, size, size, generator=generator) for size in sizes]
        return {"views": drawn, "index": torch.arange(count)}

    return make


@pytest.fixture
def pair() -> Callable[[Tensor, Tensor], Batch]:
    return lambda one, two: {"views": [one, two], "index": torch.arange(len(one))}


@pytest.fixture
def groups_during(tmp_path) -> Callable[..., list[dict[str, dict[str, Any]]]]:
    """Train a recipe on digits; for each step, each parameter's options in the optimizer."""

    def run(recipe: Recipe, method: Any, *, steps: int) -> list[dict[str, dict[str, Any]]]:
        seen: list[dict[str, dict[str, Any]]] = []

        class Look(Callback):
            def on_before_optimizer_step(self, trainer, module, optimizer):
                names = {id(value): name for name, value in module.method.named_parameters()}
                seen.append(
                    {
                        names[id(value)]: {key: group[key] for key in group if key != "params"}
                        for group in optimizer.param_groups
                        for value in group["params"]
                    }
                )

        recipe = replace(
            recipe,
            method=method,
            encoder=partial(small_resnet, widths=(8, 8, 16)),
            data=Digits(),
            batch_size=16,
            epochs=1,
            steps=steps,
            precision="32-true",
        )
        quiet = {"logger": False, "checkpoint_seconds": 1e9, "accelerator": "cpu"}
        pretrain(recipe, out=tmp_path / "run", callbacks=[Look()], **quiet)
        return seen

    return run
