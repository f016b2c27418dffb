import csv
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning import Callback
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from tests.toys import Players, sgd, toy_recipe
from unlabeled.artifacts import Run
from unlabeled.encoders.image import small_resnet
from unlabeled.engine import NonFinite, Pretraining, _seed
from unlabeled.pretraining import pretrain
from unlabeled.recipe import PLAIN_1D, Optim, Rule
from unlabeled.schedule import constant, linear

QUIET = {"logger": False, "checkpoint_seconds": 1e9, "accelerator": "cpu"}


class Spy(Callback):
    """Keeps the method, and the optimizer's rates at every step."""

    def __init__(self):
        self.rates, self.totals = [], []

    def on_train_start(self, trainer, module):
        self.method, self.trainer = module.method, trainer

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        groups = trainer.optimizers[0].param_groups
        self.rates.append([(group["lr"], group["weight_decay"]) for group in groups])


def fit(recipe, tmp_path, **options):
    spy = Spy()
    callbacks = [spy, *options.pop("callbacks", [])]
    pretrain(recipe, out=tmp_path / "run", callbacks=callbacks, **{**QUIET, **options})
    return spy


def test_the_hooks_are_called_in_order_once_a_step(tmp_path):
    calls = fit(toy_recipe(steps=3), tmp_path).method.calls
    assert calls == [(name, step) for step in range(3) for name in ("before", "loss", "after")]


def test_accumulation_steps_once_for_its_micro_batches(tmp_path):
    calls = fit(toy_recipe(steps=2, accumulate=4), tmp_path).method.calls
    expected = [("before", 0), *[("loss", 0)] * 4, ("after", 0)]
    assert calls == [*expected, *[(name, 1) for name, _ in expected]]


def test_rates_follow_the_schedules_the_batch_and_the_rules(tmp_path):
    optim = sgd(
        lr=0.1,
        lr_per=32,
        weight_decay=linear(0.0, 0.6),
        rules=(Rule(name="head.*", lr=constant(0.5)), PLAIN_1D),
    )
    rates = fit(toy_recipe(optim=replace(optim, lr=linear(0.1, 0.7))), tmp_path).rates
    head, plain, rest = rates[3]
    assert head == pytest.approx((0.5 * 16 / 32, 0.3))
    assert plain == pytest.approx((0.4 * 16 / 32, 0.0))
    assert rest == pytest.approx((0.4 * 16 / 32, 0.3))


def test_the_first_rule_that_matches_counts():
    rules = (Rule(name="head.*", lr_scale=2.0), PLAIN_1D)
    recipe = toy_recipe(optim=sgd(rules=rules)).fitted()
    module = Pretraining(recipe.build(), recipe, steps=1, epoch_steps=1)
    groups = module.configure_optimizers()[0].param_groups
    assert len(groups[0]["params"]) == 2  # the head's bias is with its weight
    assert [group["adapt"] for group in groups] == [True, False, True]


def test_several_turns_have_an_optimizer_each_and_repeat(tmp_path):
    recipe = toy_recipe(
        method=partial(Players), optim={"critic": sgd(0.1), "main": sgd(0.02)}, steps=2
    )
    before = recipe.fitted().build
    torch.manual_seed(0)
    start = before().head.weight.detach().clone()
    spy = fit(recipe, tmp_path)
    assert [optimizer.param_groups[0]["lr"] for optimizer in spy.trainer.optimizers] == [0.1, 0.02]
    assert spy.trainer.global_step == 6  # two steps of (2 critic + 1 main)
    assert not torch.equal(spy.method.head.weight.cpu(), start)


def test_optimizers_must_fit_the_turns():
    recipe = toy_recipe(method=partial(Players)).fitted()
    with pytest.raises(ValueError, match="turns critic, main"):
        Pretraining(recipe.build(), recipe, steps=1, epoch_steps=1)
    wrong = replace(recipe, optim={"critic": sgd()})
    with pytest.raises(ValueError, match="the turns are critic, main"):
        Pretraining(wrong.build(), wrong, steps=1, epoch_steps=1)


def players(**changes):
    options = {"optim": {"critic": sgd(0.1), "main": sgd(0.02)}, "steps": 3, **changes}
    options.setdefault("encoder", partial(plain_resnet))
    return toy_recipe(method=partial(Players), **options)


def plain_resnet(spec):
    """Without batch norm, so that micro-batches and ranks give what the whole batch does."""
    encoder = small_resnet(spec, widths=(8, 8, 16))
    for module in list(encoder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.GroupNorm(2, child.num_features))
    return encoder


def test_the_clock_tells_the_plays_of_a_step_apart(tmp_path):
    calls = fit(players(steps=2), tmp_path).method.calls
    plays = [("critic", 0), ("critic", 1), ("main", 2), ("after", 2)]
    assert calls == [(name, step, play) for step in range(2) for name, play in plays]


def test_a_turn_gives_gradients_to_its_own_parameters_only(tmp_path):
    """The critic's loss reaches the encoder, which does not learn in the critic's turn."""
    method = fit(players(), tmp_path).method
    assert method.learners == {("critic", "head"), ("main", "encoder")}
    assert all(value.requires_grad for value in method.parameters())


def test_turns_accumulate_micro_batches_before_each_step(tmp_path):
    whole = fit(players(), tmp_path / "whole")
    parts = fit(players(accumulate=4), tmp_path / "parts")
    assert parts.trainer.global_step == whole.trainer.global_step == 9
    first = [call for call in parts.method.calls if call[1] == 0]
    assert first == [
        *[("critic", 0, 0)] * 4, *[("critic", 0, 1)] * 4, *[("main", 0, 2)] * 4, ("after", 0, 2),
    ]  # fmt: skip
    for one, other in zip(whole.method.parameters(), parts.method.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_accumulated_turns_are_logged_by_step(tmp_path):
    logger = CSVLogger(tmp_path, name="logs", flush_logs_every_n_steps=1)
    fit(players(accumulate=2, steps=4), tmp_path, logger=logger)
    with open(f"{logger.log_dir}/metrics.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["loss/fool"]]
    assert sorted({row["step"] for row in rows}) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_several_turns_resume_bit_for_bit(tmp_path, accumulate):
    momentum = partial(torch.optim.SGD, momentum=0.9)
    recipe = players(
        optim={"critic": sgd(0.1, kind=momentum), "main": sgd(0.02, kind=momentum)},
        steps=6,
        accumulate=accumulate,
    )
    straight = fit(recipe, tmp_path / "straight").method
    with pytest.raises(RuntimeError, match="plug"):
        fit(recipe, tmp_path, checkpoint_seconds=0.0, callbacks=[Unplug(4 * accumulate - 1)])
    resumed = fit(recipe, tmp_path).method
    assert {step for _, step, _ in resumed.calls} < set(range(6))
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


class Unplug(Callback):
    def __init__(self, batch):
        self.batch = batch

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == self.batch:
            raise RuntimeError("pulled the plug")


RANKS = """
from tests.test_engine import QUIET, players
from unlabeled.pretraining import pretrain
pretrain(players(), out="run", devices=2, **QUIET)
"""


def test_several_turns_on_two_ranks_train_as_on_one(tmp_path):
    """DDP must not wait for gradients of the players whose turn it is not."""
    alone = pretrain(players(), out=tmp_path / "alone", **QUIET).model().encoder
    (tmp_path / "ranks.py").write_text(RANKS)
    paths = {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "ranks.py"], cwd=tmp_path, env={**os.environ, **paths},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    both = Run(tmp_path / "run").model().encoder
    for one, other in zip(alone.parameters(), both.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_term(tmp_path):
    recipe = toy_recipe()
    recipe = replace(recipe, method=partial(recipe.method.func, trouble="nan"))
    with pytest.raises(NonFinite, match=r"step 3 \(pull nan, size .*optim.lr"):
        fit(recipe, tmp_path)


def test_clipping_bounds_the_step(tmp_path):
    """With SGD a step is lr times the clipped gradient, whose norm is at most the bound."""
    moved = {}
    for clip in (1e-3, None):
        recipe = toy_recipe(clip=clip, steps=1, optim=sgd(1.0))
        torch.manual_seed(0)
        before = dict(recipe.fitted().build().named_parameters())
        spy = Spy()
        pretrain(recipe, out=tmp_path / str(clip), callbacks=[spy], **QUIET)
        pairs = [(before[name], value) for name, value in spy.method.named_parameters()]
        moved[clip] = sum((a - b).square().sum().item() for a, b in pairs) ** 0.5
    assert moved[1e-3] == pytest.approx(1e-3, rel=1e-3)
    assert moved[None] > 0.01


def test_a_sweep_sees_every_sample_once_in_order_and_restores_modes():
    recipe = toy_recipe().fitted()
    module = Pretraining(recipe.build(), recipe, steps=1, epoch_steps=1)
    module.method.train()
    module.method.head.eval()
    means = module.sweep(lambda x: x.mean((1, 2, 3)))
    raw = recipe.data.split("train").__getitems__(list(range(recipe.data.size("train"))))
    expected = recipe.data.prepare(recipe.views.spec)(raw).mean((1, 2, 3))
    torch.testing.assert_close(means, expected)
    assert module.method.encoder.training
    assert not module.method.head.training


def test_teachers_belong_to_no_optimizer():
    recipe = toy_recipe().fitted()
    method = recipe.build()
    method.head.requires_grad_(False)
    module = Pretraining(method, recipe, steps=1, epoch_steps=1)
    optimizer = module.configure_optimizers()[0]
    listed = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert not listed & {id(p) for p in method.head.parameters()}


def test_optim_is_a_plain_value():
    assert Optim(kind=torch.optim.SGD, lr=constant(1.0)).rules == ()


def test_the_seed_of_a_step_is_torchs_and_leaves_no_trace():
    torch.manual_seed(123)
    wanted = torch.rand(3)
    waiting = [len(queue) for queue in lazy_calls()]
    _seed(123, torch.device("cpu"))
    assert torch.equal(torch.rand(3), wanted)
    assert [len(queue) for queue in lazy_calls()] == waiting


def lazy_calls():
    # where torch.manual_seed leaves a call and a stack trace for each accelerator that is absent
    return [torch.cuda._queued_calls, torch.cuda._lazy_seed_tracker.get_calls()]


class Logged(Callback):
    """How many times Lightning was asked to log, and the newest terms at every step."""

    def __init__(self):
        self.calls, self.terms = [], []

    def on_train_start(self, trainer, module):
        log = module.log

        def counted(name, *args, **options):
            if name.startswith("loss/"):
                self.calls.append(trainer.global_step)
            log(name, *args, **options)

        module.log = counted

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.terms.append(sum(value.item() for value in module.terms.values()))


def test_only_the_steps_that_are_written_are_logged(tmp_path):
    every, spied = Logged(), Logged()
    options = {**QUIET, "logger": CSVLogger(tmp_path, name="logs", version="0")}
    pretrain(
        toy_recipe(steps=8), out=tmp_path / "a", callbacks=[spied], log_every_n_steps=3, **options
    )
    pretrain(toy_recipe(steps=8), out=tmp_path / "b", callbacks=[every], **QUIET)
    assert sorted(set(spied.calls)) == [2, 5]
    assert sorted(set(every.calls)) == list(range(8))
    assert spied.terms == every.terms
    with (tmp_path / "logs" / "0" / "metrics.csv").open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if any(key.startswith("loss/") for key in row)]
    assert [int(row["step"]) for row in rows if row[spied_key(rows)]] == [2, 5]


def spied_key(rows):
    return next(key for key in rows[0] if key.startswith("loss/"))
