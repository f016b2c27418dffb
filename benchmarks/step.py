"""A training step: against the bare encoder, against lightly, and what the trainer itself costs.

resnet18: SimCLR, ResNet-18 with the stem for small images, 32 px, batch 128, two views. The limit
    is the encoder's forward and backward pass on ready views, in the precision that ours uses.
small:    the step of the demo (`simclr:small`, 28 px, batch 256) beside lightly's stack with the
    same network, views and optimizer; as both come, and both in float32.
trainer:  a method of one linear layer on 8 numbers, so that only what surrounds it costs: our
    engine with its callbacks and logs, bare Lightning, and a plain loop.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from _common import OWN, Check, Runs, arguments, paired, peer, report
from _steps import (
    PLAIN_TRAINER,
    LightlySimCLR,
    Steps,
    lightly,
    ours,
    random_images,
)
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from unlabeled.data.arrays import ArrayFile
from unlabeled.data.source import DataSource
from unlabeled.encoders.image import image_encoder
from unlabeled.method import Batch, Method
from unlabeled.methods.image import simclr
from unlabeled.plan import resolve_precision
from unlabeled.recipe import Optim, Recipe
from unlabeled.schedule import constant
from unlabeled.views.image import TwoViews, simclr_augment

CASES = ("resnet18", "small", "trainer")


def main() -> None:
    options = arguments(__doc__, cases=CASES)
    gpu = ["cuda"] if torch.cuda.is_available() else []
    for case in options.cases:
        for device in [options.device] if options.device else ["cpu", *gpu]:
            with tempfile.TemporaryDirectory() as folder:
                globals()[case](options, device, Path(folder))


def array_file(folder: Path, images: np.ndarray[Any, Any]) -> ArrayFile:
    np.save(folder / "images.npy", images)
    return ArrayFile(str(folder / "images.npy"))


# ResNet-18 ---------------------------------------------------------------------------------------


def resnet18(options: Any, device: str, folder: Path) -> None:
    size = 4 if options.quick else 128 if device == "cpu" else 1024
    data = array_file(folder, random_images(8 * size, 32, 3))
    recipe = replace(
        simclr.small(),
        data=data,
        views=TwoViews(simclr_augment()),
        encoder=image_encoder("torchvision/resnet18"),
        batch_size=size,
        epochs=1000,
    )
    precision = resolve_precision("auto") if device == "cuda" else "32-true"
    recipe = replace(recipe, precision=precision).fitted()
    bare = bare_encoder(recipe, size, device)
    with ours(recipe, folder / "run", device=device) as step:
        runs = paired(
            {OWN: step, "bare encoder": bare},
            options,
            rounds=7,
            warmup=1,
            budget=60,
            device=device,
        )
    report(
        f"step, ResNet-18 32 px, batch {size} x 2 views, {precision}, {device}",
        runs,
        limit="bare encoder",
        of_limit=1.05,
        per_call=2 * size,
        unit="views",
    )


def bare_encoder(recipe: Recipe, size: int, device: str) -> Any:
    """Forward and backward of the encoder alone, on views that are there already."""
    spec = recipe.views.spec
    encoder = recipe.encoder(spec).to(device).to(memory_format=torch.channels_last).train()
    views = torch.randn(2 * size, spec.channels, spec.size, spec.size, device=device)
    views = views.contiguous(memory_format=torch.channels_last)
    narrow = recipe.precision == "bf16-mixed"

    def call() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=narrow):
            found = encoder(views)
        found.float().square().mean().backward()
        encoder.zero_grad()

    return call


# The demo's step ---------------------------------------------------------------------------------


def small(options: Any, device: str, folder: Path) -> None:
    size = 32 if options.quick else 256
    images = random_images(8 * size, 28, 1)
    recipe = replace(
        simclr.small(), data=array_file(folder, images), batch_size=size, epochs=1000
    ).fitted()
    auto = resolve_precision("auto")
    bare = bare_encoder(replace(recipe, precision="32-true"), size, device)
    with (
        ours(recipe, folder / "auto", device=device, precision=auto) as as_it_comes,
        ours(recipe, folder / "fp32", device=device, precision="32-true") as fp32,
        lightly_small(recipe, images, size, device) as theirs,
    ):
        contestants = {OWN: as_it_comes, f"{OWN} float32": fp32, "bare encoder": bare}
        if auto == "32-true":
            del contestants[f"{OWN} float32"]
        runs = paired(
            {**contestants, "lightly": theirs if peer("lightly") else None},
            options,
            rounds=7,
            warmup=1,
            budget=45,
            device=device,
        )
    work = f"step of the demo, small ResNet 28 px, batch {size} x 2 views"
    if auto == "32-true":
        # this processor computes in float32 only, so "as it comes" is "like for like"
        runs[f"{OWN} float32"] = runs[OWN]
    for own, least, how in (
        (OWN, 2.0, f"as it comes ({auto})"),
        (f"{OWN} float32", 1.15, "float32"),
    ):
        shown = Runs()
        shown.absent = runs.absent
        shown.update({OWN: runs[own], **{k: t for k, t in runs.items() if not k.startswith(OWN)}})
        report(
            f"{work}, {how}, {device}",
            shown,
            peers=("lightly",),
            limit="bare encoder",
            over_peer=least,
            per_call=size,
            unit="images",
        )


def lightly_small(recipe: Recipe, images: np.ndarray[Any, Any], size: int, device: str) -> Steps:
    if not peer("lightly"):
        return Steps(lambda pause: None)
    encoder = recipe.encoder(recipe.views.spec)
    module = LightlySimCLR(
        encoder,
        simclr.nonlinear_head(encoder.dim, 128),
        partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.02),
        0.1,
    )
    return lightly(module, images, lightly_transform(recipe), batch_size=size, device=device)


def lightly_transform(recipe: Recipe) -> Any:
    """lightly's SimCLR views with the numbers of the recipe's; gray images have no color."""
    from lightly.transforms import SimCLRTransform

    augment, spec = recipe.views.first, recipe.views.spec
    return SimCLRTransform(
        input_size=spec.size,
        min_scale=augment.scale[0],
        cj_prob=augment.jitter,
        cj_strength=1.0,
        cj_bright=augment.brightness,
        cj_contrast=augment.contrast,
        cj_sat=0.0,
        cj_hue=0.0,
        random_gray_scale=0.0,
        gaussian_blur=augment.blur,
        sigmas=augment.blur_sigma,
        normalize={"mean": list(spec.mean), "std": list(spec.std)},
    )


# The trainer -------------------------------------------------------------------------------------


class Numbers:
    """The samples of `NumberSource`."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitems__(self, places: list[int]) -> Batch:
        return {"views": [self.x[places]], "index": torch.tensor(places)}


@dataclass(frozen=True)
class NumberSource(DataSource):
    """Rows of random numbers; ready, so that reading costs nothing."""

    rows: int = 4096

    @property
    def name(self) -> str:
        return "numbers"

    @property
    def classes(self) -> None:
        return None

    @property
    def workers(self) -> int:
        return 0

    def size(self, split: str) -> int:
        return self.rows

    def spec(self) -> int:
        return 8

    def split(self, name: str) -> Any:
        return Numbers(torch.randn(self.rows, 8))

    def collate(self, batch: Any) -> Any:
        return batch

    def prepare(self, spec: Any) -> Any:
        return prepared

    def fit(self, spec: Any) -> Any:
        return self


def prepared(batch: Batch) -> Tensor:
    return batch["views"][0]


@dataclass(frozen=True)
class Ready:
    """Views that are there already."""

    spec: int = 8

    def fit(self, spec: int) -> Ready:
        return self

    def __call__(self, batch: Batch, generator: Any) -> Batch:
        return batch


def line_encoder(spec: int) -> nn.Linear:
    return nn.Linear(spec, 8)


@final
class Line(Method):
    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return {"square": self.encoder(batch["views"][0]).square().mean()}


class BareLine(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(8, 8)

    def training_step(self, batch: Tensor, number: int) -> Tensor:
        return self.line(batch).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def trainer(options: Any, device: str, folder: Path) -> None:
    recipe = Recipe(
        method=partial(Line),
        encoder=partial(line_encoder),
        data=NumberSource(),
        views=Ready(),
        optim=Optim(kind=torch.optim.SGD, lr=constant(0.01)),
        epochs=100_000,
        batch_size=4,
    )
    rows = [torch.randn(4, 8) for _ in range(1000)]
    accelerator = "gpu" if device == "cuda" else "cpu"

    def bare_fit(pause: Any) -> None:
        loader = DataLoader(rows, batch_size=None)  # type: ignore[arg-type]
        settings = {**PLAIN_TRAINER, "max_epochs": 1000}
        Trainer(accelerator=accelerator, callbacks=[pause], **settings).fit(BareLine(), loader)

    plain = BareLine().to(device)
    optimizer = plain.configure_optimizers()

    def loop() -> None:
        loss = plain.training_step(rows[0].to(device), 0)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    with ours(recipe, folder / "run", device=device) as step, Steps(bare_fit) as lightning:
        runs = paired(
            {OWN: step, "bare Lightning": lightning, "plain loop": loop},
            options,
            rounds=15,
            warmup=30,
            least_seconds=0.05 if options.quick else 0.3,
            budget=40,
            device=device,
        )
    middle = {name: sorted(t.cpu)[len(t.cpu) // 2] * 1e6 for name, t in runs.items()}
    over = middle[OWN] - middle["bare Lightning"]
    report(
        f"trainer alone, a step of one linear layer, {device}",
        runs,
        limit="bare Lightning",
        checks=[Check("us a step beyond Lightning", over, most=500)],
        kind="cpu",
        note="ours logs, watches health and keeps checkpoints in it; bare Lightning does not",
    )


if __name__ == "__main__":
    main()
