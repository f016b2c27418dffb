"""The run folder: nothing is lost, nothing is overwritten."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from lightning import Callback

from tests.toys import sgd, toy_recipe
from unlabeled.artifacts import Run, load, load_encoder
from unlabeled.data.arrays import ArrayFile
from unlabeled.encoders.image import small_resnet
from unlabeled.methods.image.moco import MoCo
from unlabeled.monitor import Collapse, Interrupted
from unlabeled.plan import fit_to_data, make_plan, resolve_precision
from unlabeled.pretraining import pretrain

QUIET = {"logger": False, "accelerator": "cpu"}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


class Stop(Callback):
    def __init__(self, step, act):
        self.step, self.act = step, act

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == self.step:
            self.act()


def fail():
    raise RuntimeError("pulled the plug")


def test_a_finished_run_is_not_overwritten(tmp_path):
    recipe = toy_recipe(steps=2)
    run = pretrain(recipe, out=tmp_path / "run", **QUIET)
    assert run.finished
    with pytest.raises(ValueError, match=r"finished run.*--overwrite"):
        pretrain(recipe, out=tmp_path / "run", **QUIET)
    pretrain(replace(recipe, seed=1), out=tmp_path / "run", overwrite=True, **QUIET)
    assert Run(tmp_path / "run").recipe.seed == 1


def test_an_unfinished_run_of_another_recipe_is_left_alone(tmp_path):
    with pytest.raises(RuntimeError, match="plug"):
        pretrain(toy_recipe(), out=tmp_path / "run", callbacks=[Stop(2, fail)], **QUIET)
    with pytest.raises(ValueError, match=r"another recipe \(batch_size: 16 there, 32 here\)"):
        pretrain(toy_recipe(batch_size=32), out=tmp_path / "run", **QUIET)


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="no run folder"):
            pretrain(toy_recipe(), out=tmp_path, overwrite=overwrite, **QUIET)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_sigterm_saves_and_the_same_command_continues(tmp_path):
    recipe = toy_recipe(steps=6)
    straight = pretrain(recipe, out=tmp_path / "straight", **QUIET)
    ask = Stop(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="stopped at step 3"):
        pretrain(recipe, out=tmp_path / "run", callbacks=[ask], **QUIET)
    assert signal.getsignal(signal.SIGTERM) == before
    resumed = pretrain(recipe, out=tmp_path / "run", **QUIET)
    assert same(straight.model().encoder.state_dict(), resumed.model().encoder.state_dict())


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, damage, caplog):
    recipe = toy_recipe(steps=6)
    straight = pretrain(recipe, out=tmp_path / "straight", **QUIET)
    options = {**QUIET, "checkpoint_seconds": 0.0, "callbacks": [Stop(4, fail)]}
    with pytest.raises(RuntimeError, match="plug"):
        pretrain(recipe, out=tmp_path / "run", **options)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    whole = last.read_bytes()
    middle = len(whole) // 2
    last.write_bytes(
        {
            "empty": b"",
            "cut": whole[:middle],
            "flipped": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :],
        }[damage]
    )
    resumed = pretrain(recipe, out=tmp_path / "run", **QUIET)
    assert "last.ckpt" in caplog.text
    assert same(straight.model().encoder.state_dict(), resumed.model().encoder.state_dict())


def test_killed_after_the_last_step_it_only_finishes(tmp_path):
    recipe = toy_recipe(steps=4)
    straight = pretrain(recipe, out=tmp_path / "run", checkpoint_seconds=0.0, **QUIET)
    weights = straight.model().encoder.state_dict()
    (tmp_path / "run" / "encoder.safetensors").unlink()
    (tmp_path / "run" / "status.json").unlink()
    again = pretrain(recipe, out=tmp_path / "run", **QUIET)
    assert same(weights, again.model().encoder.state_dict())


KILLED = """
import sys
import torch
torch.set_num_threads(1)
from tests.toys import toy_recipe
from unlabeled.pretraining import pretrain
pretrain(toy_recipe(steps=40, batch_size=64, epochs=9), out=sys.argv[1],
         checkpoint_seconds=0.0, logger=False, accelerator="cpu")
"""


def test_kill_9_in_mid_epoch_and_the_same_command_give_the_same_weights(tmp_path):
    def command(out):
        return [sys.executable, "-c", KILLED, str(out)]

    subprocess.run(command(tmp_path / "straight"), check=True, capture_output=True)
    for attempt in range(3):
        process = subprocess.Popen(command(tmp_path / "run"), stderr=subprocess.DEVNULL)
        last = tmp_path / "run" / "checkpoints" / "last.ckpt"
        seen = last.stat().st_mtime_ns if last.exists() else 0
        while not (last.exists() and last.stat().st_mtime_ns > seen) and process.poll() is None:
            time.sleep(0.005)
        time.sleep(0.02 * attempt)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command(tmp_path / "run"), check=True, capture_output=True)
    one, other = (Run(tmp_path / name).model().encoder.state_dict() for name in ("straight", "run"))
    assert same(one, other)


def test_a_collapse_stops_the_run_with_its_cause_and_remedies(tmp_path):
    recipe = toy_recipe(steps=400, epochs=10, encoder=partial(dead_encoder), optim=sgd(0.0))
    with pytest.raises(Collapse, match=r"effective rank .*--batch-size.*optim.lr.*views"):
        pretrain(recipe, out=tmp_path / "run", **QUIET)
    assert (tmp_path / "run" / "checkpoints" / "stopped.ckpt").exists()


def dead_encoder(spec):
    encoder = small_resnet(spec, widths=(8, 8, 16))
    for value in encoder.parameters():
        torch.nn.init.constant_(value, 0.1)
    return encoder


def test_an_encoder_file_that_was_changed_is_refused(tmp_path):
    run = pretrain(toy_recipe(steps=1), out=tmp_path / "run", **QUIET)
    path = run.path / "encoder.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        load_encoder(path)


def test_load_says_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match="no run folder"):
        load(tmp_path)
    with pytest.raises(RuntimeError, match="plug"):
        pretrain(toy_recipe(), out=tmp_path / "run", callbacks=[Stop(2, fail)], **QUIET)
    with pytest.raises(FileNotFoundError, match="run the same pretrain command again"):
        load(tmp_path / "run")


def test_the_run_folder_holds_recipe_metrics_and_environment(tmp_path):
    run = pretrain(toy_recipe(steps=12), out=tmp_path / "run", accelerator="cpu")
    facts = json.loads((run.path / "environment.json").read_text())
    assert torch.__version__.startswith(facts["versions"]["torch"])
    rows = run.metrics()
    assert rows
    assert {"step", "loss/pull", "loss/size", "loss/total"} <= set(rows[-1])
    assert list((run.path / "logs").glob("*/events*"))


def test_metrics_of_a_resumed_run_join(tmp_path):
    recipe = toy_recipe(steps=8)
    options = {"accelerator": "cpu", "log_every_n_steps": 1, "checkpoint_seconds": 0.0}
    with pytest.raises(RuntimeError, match="plug"):
        pretrain(recipe, out=tmp_path / "run", callbacks=[Stop(5, fail)], **options)
    run = pretrain(recipe, out=tmp_path / "run", **options)
    steps = [row["step"] for row in run.metrics() if "loss/pull" in row]
    assert steps == list(range(8))


def test_small_data_gets_smaller_batches_and_as_many_steps(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 255, (100, 16, 16), np.uint8))
    recipe = toy_recipe(batch_size=128, epochs=3, steps=None)
    planned = 3 * (recipe.data.size("train") // 128)
    fitted, notes = fit_to_data(recipe, ArrayFile(str(tmp_path / "x.npy")), fixed={})
    assert fitted.batch_size == 16
    assert fitted.epochs == max(10, -(-planned // (100 // 16)))
    assert len(notes) == 2
    kept, _ = fit_to_data(recipe, fitted.data, fixed={"batch_size": 50, "epochs": 1})
    assert kept.epochs == 3


def test_a_batch_larger_than_the_data_is_one_clear_error(tmp_path):
    with pytest.raises(ValueError, match=r"batch_size 4096 is larger than the 1[,0-9]+ training"):
        make_plan(toy_recipe(batch_size=4096))


def test_init_reaches_the_teacher_too(tmp_path):
    source = pretrain(toy_recipe(steps=1), out=tmp_path / "source", **QUIET)
    seen = {}

    class Look(Callback):
        def on_train_start(self, trainer, module):
            for name in ("encoder", "teacher.module.0"):
                part = module.method.get_submodule(name)
                seen[name] = {key: value.clone() for key, value in part.state_dict().items()}

    recipe = toy_recipe(method=partial(MoCo, queue=32, batchnorm_splits=2), steps=1)
    recipe = replace(recipe, sync_batchnorm=False)
    init = str(source.path / "encoder.safetensors")
    pretrain(recipe, out=tmp_path / "run", init=init, callbacks=[Look()], **QUIET)
    weights = source.model().encoder.state_dict()
    assert same(weights, seen["encoder"])
    assert same(weights, seen["teacher.module.0"])


def test_teachers_and_buffers_have_the_layout_that_is_fast(tmp_path):
    seen = {}

    class Look(Callback):
        def on_train_start(self, trainer, module):
            for name, value in module.method.state_dict().items():
                if value.ndim == 4 and value.shape[1] > 1 and value.shape[2] > 1:
                    layout = torch.channels_last
                    seen[name] = value.is_contiguous(memory_format=layout)

    recipe = toy_recipe(method=partial(MoCo, queue=32, batchnorm_splits=2), steps=1)
    recipe = replace(recipe, sync_batchnorm=False)
    pretrain(recipe, out=tmp_path / "run", callbacks=[Look()], **QUIET)
    assert any(name.startswith("teacher") for name in seen)
    assert any(name.startswith("encoder") for name in seen)
    assert all(seen.values())


@pytest.mark.parametrize("count", [2, 5, 17, 40])
def test_a_handful_of_images_trains(tmp_path, count):
    images = np.random.default_rng(0).integers(0, 255, (count, 32, 32), np.uint8)
    np.save(tmp_path / "x.npy", images)
    plan = {"data": str(tmp_path / "x.npy"), "overrides": {"steps": 2}}
    run = pretrain("simclr", out=tmp_path / "run", **plan, **QUIET)
    assert run.finished


def test_precision_auto_depends_on_the_hardware_only():
    assert resolve_precision("auto") in ("bf16-mixed", "32-true")
    assert resolve_precision("16-mixed") == "16-mixed"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file"):
        pretrain(toy_recipe(), out=tmp_path / "file" / "run", **QUIET)
