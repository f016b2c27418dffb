import csv
from dataclasses import replace
from functools import partial

import pytest
import torch
from lightning import Callback
from lightning.pytorch.loggers import CSVLogger

from tests.toys import Players, sgd, toy_recipe
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
    pretrain(recipe, out=tmp_path / "run", callbacks=[spy], **{**QUIET, **options})
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


def test_several_turns_refuse_accumulation():
    optim = {"critic": sgd(), "main": sgd()}
    recipe = toy_recipe(method=partial(Players), optim=optim, accumulate=2).fitted()
    with pytest.raises(ValueError, match="accumulate=1"):
        Pretraining(recipe.build(), recipe, steps=1, epoch_steps=1)


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
