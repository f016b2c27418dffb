"""Methods of a few lines for tests of the engine; importable, so that recipes can name them."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from unlabeled.data.digits import Digits
from unlabeled.encoders.image import small_resnet
from unlabeled.method import Batch, Method, Turn
from unlabeled.recipe import Optim, Recipe
from unlabeled.schedule import constant
from unlabeled.views.image import Augment, TwoViews


class Toy(Method):
    """Pulls two views together and keeps the features' scale; records the engine's calls."""

    def __init__(self, encoder: Any, *, trouble: str = "") -> None:
        super().__init__(encoder)
        self.head = nn.Linear(encoder.dim, 8)
        self.trouble = trouble
        self.calls: list[tuple[str, int]] = []

    def before_step(self, sweep: Any) -> None:
        self.calls.append(("before", self.clock.step))

    def after_step(self) -> None:
        self.calls.append(("after", self.clock.step))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        self.calls.append(("loss", self.clock.step))
        one, two = (self.head(self.encoder(view)) for view in batch["views"])
        terms = {"pull": (one - two).square().mean(), "size": (one.square().mean() - 1).square()}
        if self.trouble == "nan" and self.clock.step == 3:
            terms["pull"] = terms["pull"] * float("nan")
        return terms


class Players(Method):
    """Two turns: the head, twice, against the encoder; records its calls."""

    def __init__(self, encoder: Any) -> None:
        super().__init__(encoder)
        self.head = nn.Linear(encoder.dim, 4)
        self.calls: list[tuple[str, int, int]] = []
        self.learners: set[tuple[str, str]] = set()

    def called(self, turn: str) -> None:
        self.calls.append((turn, self.clock.step, self.clock.play))
        learning = [name for name, value in self.named_parameters() if value.requires_grad]
        self.learners |= {(turn, name.partition(".")[0]) for name in learning}

    def after_step(self) -> None:
        self.calls.append(("after", self.clock.step, self.clock.play))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        self.called("main")
        return {"fool": -self.head(self.encoder(batch["views"][0])).mean()}

    def critic(self, batch: Batch) -> dict[str, Tensor]:
        self.called("critic")
        score = self.head(self.encoder(batch["views"][0]))
        return {"critic": score.mean() + score.square().mean()}

    def turns(self) -> dict[str, Turn]:
        return {
            "critic": Turn(self.critic, (self.head,), repeats=2),
            "main": Turn(self.loss, (self.encoder,)),
        }


def sgd(lr: float = 0.01, **changes: Any) -> Optim:
    options = {"kind": partial(torch.optim.SGD), "lr": constant(lr), "lr_per": None, **changes}
    return Optim(**options)


def toy_recipe(**changes: Any) -> Recipe:
    options: dict[str, Any] = {
        "method": partial(Toy),
        "encoder": partial(small_resnet, widths=(8, 8, 16)),
        "data": Digits(),
        "views": TwoViews(Augment(scale=(0.5, 1.0))),
        "optim": sgd(),
        "epochs": 1,
        "steps": 6,
        "batch_size": 16,
        **changes,
    }
    return Recipe(**options)
