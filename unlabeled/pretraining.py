"""pretrain(): from a recipe's name and some data to a finished run folder."""

from __future__ import annotations

import logging
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy

from unlabeled.artifacts import (
    Run,
    checksum,
    environment,
    read_json,
    save_encoder,
    save_method,
    write_json,
)
from unlabeled.data.source import DataSource
from unlabeled.engine import Pretraining
from unlabeled.evaluators.knn import KnnWithin
from unlabeled.evaluators.labelfree import effective_rank
from unlabeled.execution import cache_gradients, compile_encoders
from unlabeled.features import Features
from unlabeled.monitor import Checkpoints, Epochs, Health, Speed
from unlabeled.nn.norms import global_batchnorm
from unlabeled.plan import Plan, make_plan
from unlabeled.recipe import Recipe, describe, fingerprint

LOG = logging.getLogger("unlabeled")

LOOK_BATCH = 256
LOOK_ROWS = 2000  # images that the look at the end of an epoch embeds, without augmentation


class Reporter(Protocol):
    """Who is told how a run goes; the command line draws it."""

    def started(self, plan: Plan) -> None:
        """Say what will be done."""

    def callback(self) -> Callback | None:
        """Return the callback that draws progress."""


def pretrain(
    recipe: str | Recipe,
    *,
    data: str | DataSource | None = None,
    encoder: str | None = None,
    epochs: float | None = None,
    batch_size: int | None = None,
    precision: str | None = None,
    seed: int | None = None,
    init: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    grad_cache: int | None = None,
    compile: bool = False,
    overrides: Mapping[str, Any] | None = None,
    reporter: Reporter | None = None,
    checkpoint_seconds: float = 60.0,
    **trainer: Any,
) -> Run:
    """Train an encoder without labels and return its run folder.

    A folder ``out`` that holds the same, unfinished run is continued from its last checkpoint:
    on CPU to the very weights that an unbroken run has. A finished run is never overwritten
    unless ``overwrite`` says so.

    Args:
        recipe: ``stem``, ``stem:preset``, ``file.py:function``, or a Recipe.
        data: a DataSource, or a text that `unlabeled.data.open_data` understands.
        encoder: a name that `unlabeled.encoders.image.image_encoder` understands.
        epochs: passes over the data; by default fitted to the data's size.
        batch_size: samples of a step, over all devices and micro-batches.
        precision: of Lightning, or "auto" (`resolve_precision`).
        seed: of weights, order and views.
        init: weights to start from: a file or ``hub:timm/NAME``.
        out: the run folder; ``runs/NAME-DATA`` by default.
        overwrite: whether a run that ``out`` holds may be replaced.
        grad_cache: samples that the encoder runs at once: the gradient of the whole batch with
            the activations of a chunk (`cache_gradients`). How a run is executed, like its
            devices: no field of the recipe.
        compile: whether torch.compile makes the encoder's forward pass, likewise.
        overrides: dotted fields of the recipe, ``{"method.temperature": 0.2}``.
        reporter: who is told how the run goes.
        checkpoint_seconds: at most so much work is lost when the process is killed.
        trainer: goes to ``lightning.Trainer`` untouched (devices, strategy, logger ...).

    Raises:
        ValueError: an unknown name or field, or a folder that holds something else.
        Interrupted: SIGINT or SIGTERM; the state is saved.
        NonFinite, Collapse: training cannot go on; the message says what to try.
    """
    plan = make_plan(
        recipe,
        data=data,
        encoder=encoder,
        epochs=epochs,
        batch_size=batch_size,
        precision=precision,
        seed=seed,
        init=init,
        out=out,
        grad_cache=grad_cache,
        compile=compile,
        devices=_count(trainer.get("devices", 1)),
        overrides=overrides,
    )
    run = _open_run(plan, overwrite=overwrite)
    if reporter is not None:
        reporter.started(plan)
    _train(plan, run, init, reporter, checkpoint_seconds, trainer)
    return run


def _count(devices: Any) -> int:
    """How many devices an option of Lightning means, 1 where only Lightning can tell."""
    if isinstance(devices, list | tuple):
        return max(1, len(devices))
    return devices if isinstance(devices, int) and devices > 0 else 1


# The folder --------------------------------------------------------------------------------------


def _open_run(plan: Plan, *, overwrite: bool) -> Run:
    """Make the folder, or find the unfinished run in it; never touch anything else."""
    run, mark = Run(plan.out), fingerprint(plan.recipe)
    if run.started:
        if run.finished and not overwrite:
            raise ValueError(
                f"{plan.out} holds a finished run of {run.name}: choose another --out, or "
                "--overwrite to train it again"
            )
        if not run.finished and run.info["fingerprint"] == mark and not overwrite:
            return run
        if not overwrite:
            raise ValueError(
                f"{plan.out} holds an unfinished run of another recipe "
                f"({_difference(run.info['recipe'], describe(plan.recipe))}): repeat its command "
                "to finish it, choose another --out, or --overwrite"
            )
        shutil.rmtree(plan.out)
    elif plan.out.exists() and any(plan.out.iterdir() if plan.out.is_dir() else [plan.out]):
        raise ValueError(f"{plan.out} exists and is no run folder: choose another --out")
    try:
        (plan.out / "checkpoints").mkdir(parents=True)
        options = {"grad_cache": plan.grad_cache, "compile": plan.compile}
        execution = {key: value for key, value in options.items() if value}
        how = {"execution": execution} if execution else {}
        write_json(plan.out / "environment.json", {**environment(), **how})
        facts = {
            "name": plan.name,
            "overrides": dict(plan.overrides),
            "fingerprint": mark,
            "recipe": describe(plan.recipe),
        }
        write_json(plan.out / "recipe.json", facts)
    except OSError as error:
        raise ValueError(
            f"cannot write to {plan.out} ({error.strerror}): choose another --out"
        ) from (error)
    return Run(plan.out)


def _difference(old: Any, new: Any, place: str = "") -> str:
    """Name the first field in which two descriptions differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if old.get(key) != new.get(key):
                inner = place if key in ("options", "map") else f"{place}.{key}".lstrip(".")
                return _difference(old.get(key), new.get(key), inner)
    return f"{place}: {old} there, {new} here"


def _checkpoint(run: Run) -> Path | None:
    """The newest checkpoint that is what was written."""
    known = read_json(run.checkpoints / "checksums.json").get("sha256", [])
    for name in ("last.ckpt", "previous.ckpt"):
        path = run.checkpoints / name
        if not path.exists():
            continue
        if checksum(path) in known:
            return path
        LOG.warning("%s is damaged (checksum differs): falling back to the one before", path)
    return None


# The training ------------------------------------------------------------------------------------


def _train(
    plan: Plan,
    run: Run,
    init: str | None,
    reporter: Reporter | None,
    checkpoint_seconds: float,
    options: Mapping[str, Any],
) -> None:
    recipe = plan.recipe
    torch.manual_seed(recipe.seed)
    encoder = recipe.encoder(recipe.views.spec)
    if init is not None:
        from unlabeled.encoders.image import init_weights

        # before the method is built: teachers are copies of the encoder
        LOG.info("%s", init_weights(encoder, init))
    method = recipe.method(encoder)
    if recipe.sync_batchnorm:
        global_batchnorm(method)
    method.to(memory_format=torch.channels_last)
    if plan.compile:
        compile_encoders(method)
    if plan.grad_cache is not None:
        cache_gradients(method, chunk=plan.grad_cache)
        LOG.info(
            "encoder in chunks of %d, loss over the whole batch; a batch norm in the encoder "
            "sees a chunk",
            plan.grad_cache,
        )
    module = Pretraining(method, recipe, steps=plan.steps, epoch_steps=plan.epoch_steps)
    checkpoints = Checkpoints(
        run.checkpoints, seconds=checkpoint_seconds, accumulate=recipe.accumulate
    )
    micro_steps = plan.epoch_steps * recipe.accumulate
    callbacks: list[Callback] = [
        Speed(batch_size=recipe.batch_size, accumulate=recipe.accumulate),
        Health(every=max(1, min(50, micro_steps)), patience=200),
        Epochs(partial(_look, run=run), steps=micro_steps * max(1, plan.epochs // 20)),
    ]
    drawn = reporter.callback() if reporter is not None else None
    callbacks += [drawn] if drawn is not None else []
    callbacks.append(checkpoints)  # last: what the others log for a step is in its checkpoint
    with warnings.catch_warnings():
        # the run is one long Lightning epoch, read ahead by a thread: these do not apply
        for message in (".*not resumable.*", ".*sync_dist.*", ".*LeafSpec.*"):
            warnings.filterwarnings("ignore", message)
        warnings.filterwarnings("ignore", ".*lr_scheduler.*")
        fitter = Trainer(**_trainer_options(plan, run, callbacks, options))
        found = _checkpoint(run)
        started = time.monotonic()
        fitter.fit(module, ckpt_path=found, weights_only=False if found else None)
    if fitter.is_global_zero:
        _finish(plan, run, module, seconds=time.monotonic() - started)


def _trainer_options(
    plan: Plan, run: Run, callbacks: Sequence[Callback], options: Mapping[str, Any]
) -> dict[str, Any]:
    recipe = plan.recipe
    given = dict(options)
    callbacks = [*callbacks, *given.pop("callbacks", [])]
    # with several players the engine accumulates and clips by itself
    players = isinstance(recipe.optim, Mapping) and len(recipe.optim) > 1
    defaults: dict[str, Any] = {
        "default_root_dir": run.path,
        "accelerator": "auto",
        "devices": 1,
        "precision": recipe.precision,
        "max_epochs": 1,
        "accumulate_grad_batches": 1 if players else recipe.accumulate,
        "use_distributed_sampler": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": max(1, min(10, plan.steps // 50)),
        "num_sanity_val_steps": 0,
    }
    if given.get("devices", 1) != 1 and "strategy" not in given:
        # queues hold what each rank has seen: rank 0's must not overwrite the others'
        # of several players those whose turn it is not get no gradient: DDP must not wait for it
        defaults["strategy"] = DDPStrategy(broadcast_buffers=False, find_unused_parameters=players)
    if not players:
        defaults["gradient_clip_val"] = recipe.clip
    if "logger" not in given:
        defaults["logger"] = _loggers(run)
    return {**defaults, **given, "callbacks": callbacks}


def _loggers(run: Run) -> list[Any]:
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    folder = run.path / "logs"
    used = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    attempt = str(max(used, default=-1) + 1)
    return [
        CSVLogger(run.path, name="logs", version=attempt, flush_logs_every_n_steps=20),
        TensorBoardLogger(run.path, name="logs", version=attempt),
    ]


def _look(trainer: Trainer, module: Any, epoch: int, *, run: Run) -> None:
    """Embed plain training images: effective rank, kNN where labels are known, the best so far.

    Best is the highest effective rank (RankMe), a rule without labels.
    """
    data, encoder = module.recipe.data, module.method.encoder
    samples = data.split("train")
    places = data.some(LOOK_ROWS)
    prepare = data.prepare(module.recipe.views.spec)
    modes = [(part, part.training) for part in encoder.modules()]
    encoder.eval()
    parts, labels = [], []
    with torch.inference_mode():
        for start in range(0, len(places), LOOK_BATCH):
            raw = samples.__getitems__(places[start : start + LOOK_BATCH])
            raw = module.transfer_batch_to_device(raw, module.device, 0)
            parts.append(encoder(prepare(raw)).float())
            labels += [raw["label"].cpu()] if "label" in raw else []
    for part, mode in modes:
        part.training = mode
    rows = torch.cat(parts)
    rank = effective_rank(rows)
    module.log("health/rank_plain", rank, batch_size=1)
    if data.classes is not None and len(rows) > 40 and labels:
        label = torch.cat(labels)
        if len(label.unique()) > 1:
            score = KnnWithin(rows=LOOK_ROWS).score(Features(rows.cpu(), label))
            module.log("knn/top1", score.value, batch_size=1)
    best = run.checkpoints / "best.json"
    if trainer.is_global_zero and rank > read_json(best).get("rank", 0.0):
        part_path = run.checkpoints / "best.part"
        torch.save(encoder.state_dict(), part_path)
        part_path.replace(run.checkpoints / "best.ckpt")
        write_json(best, {"rank": rank, "epoch": epoch, "rule": "effective rank of plain images"})


def _finish(plan: Plan, run: Run, module: Pretraining, *, seconds: float) -> None:
    encoder = module.method.encoder
    save_method(module.method, run.path)
    save_encoder(encoder, plan.recipe.encoder, run.path, name=plan.name)  # type: ignore[arg-type]
    facts = {
        "finished": True,
        "steps": plan.steps,
        "seconds": round(seconds, 1),
        "offers": sorted(module.method.predictors()),
    }
    write_json(run.path / "status.json", facts)
