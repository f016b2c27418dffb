"""Every method x every law of the house; members are found by listing files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning import Callback
from torch import Tensor, nn

from tests.tiny import BATCH, stems, tiny
from tests.world import joined, on_ranks
from unlabeled import catalog
from unlabeled.artifacts import Run
from unlabeled.method import Batch, Clock, Method
from unlabeled.nn.norms import GlobalBatchNorm
from unlabeled.pretraining import pretrain
from unlabeled.recipe import Recipe, describe, fingerprint, rebuild
from unlabeled.registry import find_recipe, load_module, studies
from unlabeled.views.generator import SampleGenerator

STEMS, STUDIES = stems(), studies()
GOLDEN = Path(__file__).parent / "golden"
each = pytest.mark.parametrize("stem", STEMS)
QUIET = {"logger": False, "checkpoint_seconds": 1e9, "accelerator": "cpu"}


def batch_of(recipe: Recipe, *, epoch: int = 0, first: int = 0) -> Batch:
    raw = recipe.data.split("train").__getitems__(list(range(first, first + BATCH)))
    return recipe.views(raw, SampleGenerator(0, epoch, raw["index"]))


def built(recipe: Recipe, *, step: int = 0) -> Method:
    torch.manual_seed(0)
    method = recipe.build()
    method.clock = Clock(step, 100, 10)
    return method


def total(method: Method, batch: Batch) -> Tensor:
    terms = [turn.loss(batch) for turn in method.turns().values()]
    return torch.stack([value for turn in terms for value in turn.values()]).sum()


def sweep_of(recipe: Recipe):
    raw = recipe.data.split("train").__getitems__(list(range(64)))
    return lambda function: function(recipe.data.prepare(recipe.views.spec)(raw))


def test_the_suite_runs_every_method_that_is_built():
    folder = Path(catalog.__file__).parents[1]
    files = [*folder.glob("methods/*/*.py"), *folder.glob("studies/*.py")]
    written = {path.stem for path in files if not path.stem.startswith("_")}
    assert written == {*STEMS, *STUDIES}
    assert len(STEMS) >= 7


@each
def test_paper_builds_on_the_meta_device(stem):
    recipe = find_recipe(f"{stem}:paper")
    with torch.device("meta"):
        method = recipe.build()
    assert all(value.is_meta for value in method.parameters())


@each
@pytest.mark.parametrize("preset", ["paper", "small"])
def test_recipe_has_a_canonical_text(stem, preset):
    recipe = find_recipe(f"{stem}:{preset}")
    copy = rebuild(json.loads(json.dumps(describe(recipe))))
    assert fingerprint(copy) == fingerprint(recipe)
    assert fingerprint(replace(recipe, seed=1)) != fingerprint(recipe)


@pytest.mark.parametrize("stem", STUDIES)
@pytest.mark.parametrize("preset", ["paper", "small"])
def test_a_study_has_a_canonical_text_and_builds(stem, preset):
    study = load_module(f"{stem}:{preset}")[1]
    copy = rebuild(json.loads(json.dumps(describe(study))))
    assert fingerprint(copy) == fingerprint(study)
    with torch.device("meta"):
        for recipe in study.recipes.values():
            recipe.build()


@each
def test_five_steps_have_a_finite_loss_and_move_the_encoder(stem, tmp_path):
    losses = Losses()
    recipe = replace(tiny(stem), steps=5)
    before = built(recipe).encoder.state_dict()
    run = pretrain(recipe, out=tmp_path / "run", callbacks=[losses], **QUIET)
    after = run.model().encoder.state_dict()
    assert len(losses.values) == 5
    assert all(torch.isfinite(torch.tensor(losses.values)))
    assert any(not torch.equal(before[name], after[name]) for name in before)


ANSWERING = {"bigbigan": "average."}
"""Parameters that no loss reads: moving averages that answer predictors, tested with the method."""


@each
def test_no_parameter_is_inert(stem):
    """Each parameter gets a gradient, or (a teacher's) changes the loss when it is moved."""
    recipe = tiny(stem)
    method = built(recipe, step=50)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.05)
    for number in range(3):  # zero-initialised gates must open first
        method.before_step(sweep_of(recipe))
        optimizer.zero_grad()
        total(method, batch_of(recipe, first=number * BATCH)).backward()
        optimizer.step()
        method.after_step()
    method.before_step(sweep_of(recipe))
    optimizer.zero_grad()
    batch = batch_of(recipe, first=100)
    total(method, batch).backward()
    state = {name: value.clone() for name, value in method.state_dict().items()}
    cancelled = biases_before_a_norm(method)
    with torch.no_grad():
        before = total(method, batch)
        for name, value in method.named_parameters():
            if stem in ANSWERING and name.startswith(ANSWERING[stem]):
                continue
            if name in cancelled or (value.grad is not None and value.grad.abs().sum() > 0):
                continue
            method.load_state_dict(state)
            value.add_(0.5 * torch.randn_like(value))
            assert total(method, batch) != before, f"{name} never matters"


def biases_before_a_norm(method: Method) -> set[str]:
    """Batch norm subtracts them again: inert in the paper's own network (BYOL's hidden layers)."""
    found = set()
    for name, module in method.named_modules():
        if isinstance(module, nn.Sequential):
            for (place, layer), after in zip(module.named_children(), [*module][1:], strict=False):
                norm = isinstance(after, nn.modules.batchnorm._BatchNorm)
                if norm and getattr(layer, "bias", None) is not None:
                    found.add(f"{name}.{place}.bias")
    return found


@each
def test_the_loss_does_not_read_labels(stem):
    recipe = tiny(stem)
    batch = batch_of(recipe)
    without = {key: value for key, value in batch.items() if key != "label"}
    if catalog.card(stem).labels:
        assert "label" in batch
        return
    one, other = built(recipe), built(recipe)
    torch.manual_seed(1)
    expected = total(one, batch)
    torch.manual_seed(1)
    assert torch.equal(total(other, without), expected)


@each
def test_resuming_equals_the_straight_run_bit_for_bit(stem, tmp_path):
    recipe = tiny(stem)
    straight = pretrain(recipe, out=tmp_path / "straight", **QUIET)
    options = {**QUIET, "checkpoint_seconds": 0.0, "callbacks": [KillAt(3)]}
    with pytest.raises(Killed):
        pretrain(recipe, out=tmp_path / "broken", **options)
    losses = Losses()
    resumed = pretrain(recipe, out=tmp_path / "broken", callbacks=[losses], **QUIET)
    assert 0 < len(losses.values) < 6, "the second start must not begin again"
    one, other = (run.model().encoder.state_dict() for run in (straight, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)


@each
def test_same_seed_same_losses_and_another_seed_others(stem, tmp_path):
    recipe = replace(tiny(stem), steps=3)
    seen = []
    for number, seed in enumerate((0, 0, 1)):
        losses = Losses()
        out = tmp_path / str(number)
        pretrain(replace(recipe, seed=seed), out=out, callbacks=[losses], **QUIET)
        seen.append(losses.values)
    assert seen[0] == seen[1]
    assert seen[0] != seen[2]


@each
def test_embedding_changes_no_state(stem):
    recipe = tiny(stem)
    method = built(recipe).eval()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    raw = recipe.data.split("train").__getitems__(list(range(8)))
    x = recipe.data.prepare(recipe.views.spec)(raw)
    embed = method.predictors()["embed"]
    with torch.no_grad():
        first, second = embed(x), embed(x)
    assert first.shape == (8, method.encoder.dim)
    assert torch.equal(first, second)
    after = method.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@each
def test_first_losses_are_the_golden_ones(stem, tmp_path):
    """A change of these must be meant: `make golden`, and say why in the commit."""
    expected = json.loads((GOLDEN / f"{stem}.json").read_text())["losses"]
    torch.testing.assert_close(golden_losses(stem, tmp_path), expected, rtol=1e-2, atol=1e-3)


def golden_losses(stem: str, folder: Path) -> list[float]:
    losses = Losses()
    pretrain(replace(tiny(stem), steps=4), out=folder / stem, callbacks=[losses], **QUIET)
    return losses.values


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    return on_ranks(2, STEMS, tmp_path_factory.mktemp("ranks"))


@each
def test_two_ranks_equal_one(stem, two_ranks):
    """Loss and gradient of two gloo ranks are those of one rank with the joined batch."""
    loss, gradient = joined(stem, ranks=2)
    assert abs(two_ranks[stem]["loss"] - loss) < 1e-6
    assert set(two_ranks[stem]["gradient"]) == set(gradient)
    for name, value in gradient.items():
        torch.testing.assert_close(
            two_ranks[stem]["gradient"][name], value, rtol=1e-6, atol=1e-8, msg=name
        )


def test_the_check_for_inert_parameters_finds_one():
    recipe = tiny("simclr")
    method = built(recipe)
    method.extra = nn.Linear(2, 2)
    total(method, batch_of(recipe)).backward()
    assert method.extra.weight.grad is None


def test_sync_batchnorm_is_on_unless_the_recipe_says_no(tmp_path):
    seen = {}

    class Look(Callback):
        def on_train_start(self, trainer, module):
            seen["global"] = any(isinstance(m, GlobalBatchNorm) for m in module.modules())

    for stem, expected in (("simclr", True), ("moco", False)):
        options = {**QUIET, "callbacks": [Look()]}
        pretrain(replace(tiny(stem), steps=1), out=tmp_path / stem, **options)
        assert seen["global"] is expected


def test_the_run_folder_tells_its_recipe(tmp_path):
    recipe = replace(tiny("simclr"), steps=1)
    pretrain(recipe, out=tmp_path / "run", **QUIET)
    assert fingerprint(Run(tmp_path / "run").recipe) == fingerprint(recipe)


class Killed(RuntimeError):
    """Stands for a kill: nothing is saved on the way out."""


class KillAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == self.step:
            raise Killed


class Losses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        terms = [
            value.item()
            for name, value in trainer.callback_metrics.items()
            if name.startswith("loss/") and name != "loss/total"
        ]
        self.values.append(sum(terms))
