"""The engine: the only LightningModule. It names no method, data set or modality."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from typing import Any, NamedTuple

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from unlabeled.data.stream import Loader, Stream
from unlabeled.method import Batch, Clock, Method, Turn
from unlabeled.recipe import Optim, Recipe, Rule
from unlabeled.schedule import Schedule
from unlabeled.views.generator import SampleGenerator


class NonFinite(RuntimeError):
    """A loss or gradient became NaN or infinite; training stopped before the step."""


class _Rates(NamedTuple):
    """The schedules of one parameter group, in the optimizer's own units."""

    lr: Schedule
    scale: float
    weight_decay: Schedule | None


class Pretraining(LightningModule):
    """Adapts a Method to Lightning.

    One turn: automatic optimization, so accumulation, clipping and precision are Lightning's.
    Several turns: manual optimization, one optimizer a turn, in the order of ``turns()``; each
    repeat steps once, on all micro-batches of the step, and ``clock.play`` counts the repeats.
    The whole run is one Lightning epoch over a `Stream`; what an epoch of the data is, the clock
    says. All randomness of a step follows from (seed, step), so nothing of it is checkpointed.
    ``terms`` holds the newest loss terms, for those who show them between two logged steps.
    """

    def __init__(self, method: Method, recipe: Recipe, *, steps: int, epoch_steps: int) -> None:
        super().__init__()
        self.method, self.recipe = method, recipe
        self._steps, self._epoch_steps = steps, epoch_steps
        self._turns = method.turns()
        self._optims = _per_turn(recipe.optim, self._turns)
        self._rates: list[list[_Rates]] = []
        self.terms: dict[str, Tensor] = {}
        self.automatic_optimization = len(self._turns) == 1
        self._held: list[Batch] = []  # micro-batches of a step that is not complete

    # Set-up --------------------------------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One optimizer a turn; Lightning's learning-rate schedulers are not used."""
        names = {id(value): name for name, value in self.method.named_parameters()}
        optimizers = []
        for turn, optim in zip(self._turns.values(), self._optims, strict=True):
            groups, rates = _groups(turn, names, optim, self.recipe.batch_size)
            self._rates.append(rates)
            optimizers.append(optim.kind(groups))
        return optimizers

    def train_dataloader(self) -> Loader:
        """The batches from where this run stands; asked for after a checkpoint was restored."""
        stream = Stream(
            self.recipe.data.size("train"),
            batch_size=self.recipe.batch_size,
            steps=self._steps,
            accumulate=self.recipe.accumulate,
            seed=self.recipe.seed,
            rank=self.trainer.global_rank,
            ranks=self.trainer.world_size,
            start=self.trainer.fit_loop.epoch_loop.batch_progress.current.ready,
            order=self.recipe.data.epoch_order,
        )
        return Loader(self.recipe.data, stream)

    def on_train_start(self) -> None:
        """Let Lightning count steps, not micro-batches, for its loggers also with several turns.

        It refuses this number together with manual optimization, but only before this hook.
        """
        if not self.automatic_optimization:
            self.trainer.accumulate_grad_batches = self.recipe.accumulate

    # A step --------------------------------------------------------------------------------------

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the clock, the random state and the rates; let the method prepare."""
        step = batch_idx // self.recipe.accumulate
        self.method.clock = Clock(step, self._steps, self._epoch_steps)
        # dropout and the like: a fresh, known state every step, so resuming needs no saved one
        _seed((self.recipe.seed * 1_000_003 + batch_idx) * 131 + self.global_rank, self.device)
        optimizers = self.optimizers()
        listed = optimizers if isinstance(optimizers, list) else [optimizers]
        for optimizer, rates in zip(listed, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate.lr(self.method.clock) * rate.scale
                if rate.weight_decay is not None:
                    group["weight_decay"] = rate.weight_decay(self.method.clock)
        if batch_idx % self.recipe.accumulate == 0:
            with torch.no_grad():
                self.method.before_step(self.sweep)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """Make the views and minimise the sum of the terms."""
        batch = self._views(batch)
        if self.automatic_optimization:
            (turn,) = self._turns.values()
            return self._total(turn, batch)
        self._held.append(batch)
        if len(self._held) == self.recipe.accumulate:
            self._play(self._held)
            self._held = []
        return None

    def _play(self, batches: Sequence[Batch]) -> None:
        """Let every turn step as often as it repeats; only its own parameters get a gradient."""
        optimizers: Any = self.optimizers()
        play = 0
        for turn, optimizer in zip(self._turns.values(), optimizers, strict=True):
            for _ in range(turn.repeats):
                self.method.clock = self.method.clock._replace(play=play)
                self.toggle_optimizer(optimizer)
                optimizer.zero_grad()
                for batch in batches:
                    self.manual_backward(self._total(turn, batch) / len(batches))
                if self.recipe.clip is not None:
                    self.clip_gradients(optimizer, self.recipe.clip, "norm")
                optimizer.step()
                self.untoggle_optimizer(optimizer)
                play += 1
        with torch.no_grad():
            self.method.after_step()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then let the method follow: called once per real step, accumulation included."""
        super().optimizer_step(*args, **kwargs)
        with torch.no_grad():
            self.method.after_step()

    def _views(self, batch: Batch) -> Batch:
        epoch = self.method.clock.step // self._epoch_steps
        generator = SampleGenerator(self.recipe.seed, epoch, batch["index"])
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return self.recipe.views(batch, generator)

    def _total(self, turn: Turn, batch: Batch) -> Tensor:
        terms = turn.loss(batch)
        total = torch.stack([term.float() for term in terms.values()]).sum()
        if not torch.isfinite(total):
            values = ", ".join(f"{name} {value.item():g}" for name, value in terms.items())
            raise NonFinite(
                f"the loss is not finite at step {self.method.clock.step} ({values}); try a lower "
                "learning rate (optim.lr=...), --precision 32-true, or clip=1.0; its state is in "
                "checkpoints/stopped.ckpt, and the same command starts from the one before"
            )
        shown = {f"loss/{name}": value.detach() for name, value in terms.items()}
        if len(terms) > 1:
            shown["loss/total"] = total.detach()
        self.terms |= shown
        # Lightning drops what is logged at other steps, after a fifth of a millisecond of work
        every: int = self.trainer.log_every_n_steps or 1  # type: ignore[attr-defined]
        if (self.method.clock.step + 1) % every == 0:
            for name, value in shown.items():
                self.log(name, value, batch_size=len(batch["index"]))
        return total

    # The whole data ------------------------------------------------------------------------------

    @torch.no_grad()
    def sweep(self, function: Callable[..., Tensor]) -> Tensor:
        """Apply a function to every training sample, in order and without augmentation."""
        data = self.recipe.data
        samples, prepare = data.split("train"), data.prepare(self.recipe.views.spec)
        modes = [(module, module.training) for module in self.method.modules()]
        self.method.eval()
        parts = []
        for start in range(0, len(samples), self.recipe.batch_size):
            places = list(range(start, min(start + self.recipe.batch_size, len(samples))))
            raw = self.transfer_batch_to_device(samples.__getitems__(places), self.device, 0)
            with torch.autocast(self.device.type, enabled=False):
                x = prepare(raw)
            parts.append(function(x))
        for module, mode in modes:
            module.training = mode
        return torch.cat(parts)


def _seed(seed: int, device: torch.device) -> None:
    """Do what ``torch.manual_seed`` does for the CPU and this device, without touching others.

    For each kind of accelerator that is not in use, that function formats a stack trace and keeps
    it, at every call: milliseconds a step, and memory.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def _per_turn(optim: Optim | Mapping[str, Optim], turns: Mapping[str, Turn]) -> list[Optim]:
    if isinstance(optim, Optim):
        if len(turns) > 1:
            raise ValueError(f"the method has the turns {', '.join(turns)}: give an Optim for each")
        return [optim]
    if set(optim) != set(turns):
        raise ValueError(f"optim is for {', '.join(optim)}, the turns are {', '.join(turns)}")
    return [optim[name] for name in turns]


def _groups(
    turn: Turn, names: Mapping[int, str], optim: Optim, batch_size: int
) -> tuple[list[dict[str, Any]], list[_Rates]]:
    """Sort a turn's parameters into groups by the first rule that matches each."""
    rules: Sequence[Rule] = (*optim.rules, Rule())
    members: list[list[nn.Parameter]] = [[] for _ in rules]
    for value in _parameters(turn.modules):
        name = names[id(value)]
        members[next(i for i, rule in enumerate(rules) if _matches(rule, name, value))].append(
            value
        )
    scale = 1.0 if optim.lr_per is None else batch_size / optim.lr_per
    groups, rates = [], []
    for rule, values in zip(rules, members, strict=True):
        if values:
            groups.append({"params": values, "adapt": rule.adapt, "weight_decay": 0.0})
            lr = rule.lr if rule.lr is not None else optim.lr
            decay = optim.weight_decay if rule.decay else None
            rates.append(_Rates(lr, scale * rule.lr_scale, decay))
    return groups, rates


def _parameters(modules: Sequence[nn.Module]) -> Iterator[nn.Parameter]:
    seen: set[int] = set()
    for module in modules:
        for value in module.parameters():
            # a teacher's parameters never get a gradient and belong to no optimizer
            if value.requires_grad and id(value) not in seen:
                seen.add(id(value))
                yield value


def _matches(rule: Rule, name: str, value: nn.Parameter) -> bool:
    if rule.one_dim is not None and (value.ndim <= 1) != rule.one_dim:
        return False
    return fnmatch(name, rule.name)
