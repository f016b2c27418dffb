"""Training on shards: resumed bit for bit, ranks and fractions of an epoch without repetition."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch
from lightning import Callback

from tests.data.tars import fill, serving
from tests.toys import toy_recipe
from unlabeled.artifacts import Run
from unlabeled.data.shardindex import write_index
from unlabeled.data.shards import Shards
from unlabeled.encoders.image import small_resnet
from unlabeled.pretraining import pretrain

QUIET = {"logger": False, "accelerator": "cpu"}
TRAINING = """
import sys
from functools import partial
import torch
torch.set_num_threads(1)
from tests.toys import toy_recipe
from unlabeled.data.shards import Shards
from unlabeled.encoders.image import small_resnet
from unlabeled.pretraining import pretrain
source = Shards(sys.argv[1], window=2, disk_bytes=int(sys.argv[2]), cache_bytes=0)
encoder = partial(small_resnet, widths=(8, 8, 16))
recipe = toy_recipe(data=source, encoder=encoder, steps=30, batch_size=16, epochs=3)
pretrain(recipe, out=sys.argv[3], checkpoint_seconds=0.0, logger=False, accelerator="cpu")
"""


@pytest.mark.slow
@pytest.mark.parametrize("remote", [False, True], ids=["disk", "server"])
def test_killed_in_mid_epoch_the_same_command_gives_the_same_weights(tmp_path, remote):
    folder = fill(tmp_path / "s", shards=20, samples=10, labels=False)
    write_index(str(folder))
    limit = 7 * (folder / "part-000.tar").stat().st_size
    with serving(folder) as server:
        pattern = f"{server.url if remote else f'{folder}/'}part-{{000..019}}.tar"

        def command(name):
            code = [sys.executable, "-c", TRAINING, pattern, str(limit), str(tmp_path / name)]
            # a cache of its own: what was fetched must not decide what is learned
            env = {**os.environ, "UNLABELED_DATA": str(tmp_path / f"{name}-cache")}
            return {"args": code, "env": {**env, "no_proxy": "127.0.0.1"}}

        subprocess.run(**command("straight"), check=True, capture_output=True)
        process = subprocess.Popen(**command("run"), stderr=subprocess.DEVNULL)
        last = tmp_path / "run/checkpoints/last.ckpt"
        while not last.exists() and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert last.exists()
        assert not Run(tmp_path / "run").finished
        subprocess.run(**command("run"), check=True, capture_output=True)
    one, other = (Run(tmp_path / name).model().encoder.state_dict() for name in ("straight", "run"))
    assert all(torch.equal(one[name], other[name]) for name in one)


class Seen(Callback):
    def __init__(self):
        self.places = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.places += batch["index"].tolist()


@pytest.mark.parametrize(
    ("fields", "count"),
    [({"epochs": 0.5}, 96), ({"epochs": 1}, 192), ({"epochs": 1, "steps": 3}, 48)],
)
def test_up_to_one_epoch_sees_no_sample_twice(tmp_path, monkeypatch, fields, count):
    monkeypatch.setenv("UNLABELED_DATA", str(tmp_path / "cache"))
    fill(tmp_path / "s", shards=20, samples=10, labels=False)
    source = Shards(str(tmp_path / "s"), window=3)
    seen = Seen()
    encoder = partial(small_resnet, widths=(8, 8, 16))
    recipe = toy_recipe(data=source, encoder=encoder, batch_size=16, **{"steps": None, **fields})
    pretrain(recipe, out=tmp_path / "run", callbacks=[seen], **QUIET)
    assert len(seen.places) == len(set(seen.places)) == count
