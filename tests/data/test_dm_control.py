"""Runs from pixels. Nothing is skipped: where MuJoCo cannot draw, these fail with the remedy."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from unlabeled.data import dm_control, open_data
from unlabeled.data.dm_control import DECISIONS, DmControl, expert
from unlabeled.evaluators.rollouts import Rollouts, acted

DATA = DmControl(side=16, test_looks=2, starts=3, trials=2, steps=4)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNLABELED_DATA", str(folder))
        yield folder / "dm_control"


def by_expert(episodes):
    while not episodes.over:
        episodes.step(torch.tensor([expert(state) for state in episodes.states]))
    return episodes.scores()


@pytest.mark.parametrize(
    ("environment", "least"), [("cartpole-balance", 900), ("cartpole-swingup", 700)]
)
def test_the_expert_solves_its_task_from_each_start(environment, least):
    data = DmControl(environment=environment, side=8, test_looks=1, trials=3)
    scores = by_expert(data.start(data.tasks("test")))
    assert scores["solved"].all()
    assert (scores["return"] > least).all()
    assert (scores["return"] <= 8 * DECISIONS).all()


def test_constant_and_reversed_actions_solve_nothing():
    episodes = DATA.start(DATA.tasks("train"))
    while not episodes.over:
        episodes.step(torch.tensor([1, 1 - expert(episodes.states[1]), 0, 1]))
    assert not episodes.scores()["solved"].any()


def test_a_fall_before_the_second_half_may_be_made_good():
    episodes = DATA.start([torch.tensor([0]), torch.tensor([0])])
    episodes.states[0] = np.array([0, np.pi, 0, 0.0])
    episodes.step(torch.tensor([0]))
    assert episodes.stands.all()
    episodes.time = DECISIONS // 2
    episodes.step(torch.tensor([0]))
    assert not episodes.stands.any()


def test_copies_of_a_run_have_the_same_actions_and_look_different():
    runs = DATA.split("train")
    assert runs.frames.shape == (6, 4, 6, 16, 16)
    assert torch.equal(runs.actions[:3], runs.actions[3:])
    assert not torch.equal(runs.frames[:3], runs.frames[3:])
    assert not torch.equal(runs.frames[0], runs.frames[1]), "each start is another"
    assert torch.equal(runs.frames[:, 1:, :3], runs.frames[:, :-1, 3:]), "the frame before"
    assert torch.equal(runs.frames[:, 0, :3], runs.frames[:, 0, 3:])


def test_an_epoch_reads_copies_side_by_side():
    first, other = (DATA.epoch_order(seed=0, epoch=epoch) for epoch in (0, 1))
    assert sorted(first.tolist()) == list(range(6))
    assert torch.equal(first[1::2], first[::2] + 3)
    assert not torch.equal(DmControl().epoch_order(seed=0, epoch=0)[:2], other[:2])


def test_test_looks_and_starts_are_unseen():
    looks, numbers = DATA.tasks("test")
    assert looks.tolist() == [2, 2, 3, 3]
    assert numbers.tolist() == [0, 1, 0, 1]
    assert DATA.tasks("train")[0].unique().tolist() == [0, 1]
    assert len(DATA.split("test")) == DATA.size("test") == 4
    assert not (DATA.split("test").frames[0] == DATA.split("train").frames[0]).all()
    with pytest.raises(ValueError, match="has no split 'val'"):
        DATA.split("val")


def test_batches_are_floats_and_padding_there_is_none():
    raw = DATA.split("train").__getitems__([4, 0])
    (x,) = raw["views"]
    assert x.dtype == torch.float32
    assert 0.3 < x.max() <= 1
    assert torch.equal((x * 255).round().byte(), DATA.split("train").frames[[4, 0]])
    assert raw["length"].tolist() == [4, 4]
    assert DATA.prepare(DATA.spec())(raw) is x


def test_runs_are_kept_whole_and_named_when_they_are_damaged(cache, monkeypatch):
    frames = DATA.split("train").frames
    (path,) = cache.glob("cartpole-balance-16-train-*.npz")
    dm_control._runs.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(dm_control, "_simulated", None)  # read, not made
        assert torch.equal(DATA.split("train").frames, frames)
    whole = path.read_bytes()
    for part in (whole[:1000], b"", b"no archive"):
        path.write_bytes(part)
        dm_control._runs.cache_clear()
        with pytest.raises(ValueError, match=r"-train-.*\.npz cannot be read .*: delete it"):
            DATA.split("train")
    path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(dm_control.os, "replace", broken)
        with pytest.raises(OSError, match="disk"):
            DATA.split("train")
    assert not list(cache.glob("*train*")), "nothing half written stays"
    assert torch.equal(DATA.split("train").frames, frames), "the same again"


def broken(*_):
    raise OSError("disk full")


def test_rollouts_score_shares_and_means_and_show_a_film():
    def constant(x):
        assert x.shape[1:] == (6, 16, 16)
        return torch.ones(len(x), dtype=torch.int64)

    found = {each.metric: each for each in Rollouts().judge(constant, DATA)}
    assert list(found) == ["solved", "return", "solved_train", "return_train"]
    assert (found["solved"].value, found["solved"].unit) == (0.0, "%")
    assert found["return"].unit == ""
    assert found["return"].value == float(acted(constant, DATA, "test")["return"].mean())
    assert [each.metric for each in Rollouts().plain(DATA)] == list(found)
    (film,) = Rollouts().figures(constant, DATA)
    assert film.title == "The policy in four tasks that it has not seen"
    assert film.frames.shape == (DECISIONS, 3, 2 * 18 * 9, 2 * 18 * 9)


def test_names_open_it_and_others_are_refused():
    opened = open_data("dm_control/cartpole-swingup")
    assert opened == DmControl(environment="cartpole-swingup")
    assert opened.name == "cartpole-swingup-40"
    with pytest.raises(ValueError, match=r"no expert for it\. Give dm_control/cartpole-balance or"):
        open_data("dm_control/walker-walk")
    with pytest.raises(ValueError, match=r"Did you mean dm_control/cartpole-balance\?"):
        open_data("dm_control/cartpole-balence")
    with pytest.raises(ValueError, match="steps is 126: give 1 to 125"):
        DmControl(steps=126)


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "dm_control", None)
    with pytest.raises(ImportError, match=r"pip install 'unlabeled\[control\]'"):
        dm_control.load("cartpole-balance")


def test_where_nothing_can_be_drawn_the_packages_are_named():
    # no such device: what PyOpenGL finds on a machine without EGL differs, that it fails does not
    code = "from unlabeled.data import dm_control as d; d.load('cartpole-balance')"
    env = {**os.environ, "MUJOCO_GL": "egl", "MUJOCO_EGL_DEVICE_ID": "99"}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert "RuntimeError: MuJoCo cannot draw without a screen here: apt-get install" in run.stderr


def test_an_optimizer_can_be_made_after_a_frame_was_drawn():
    code = (
        "from unlabeled.data.dm_control import DmControl; import torch\n"
        "data = DmControl(side=8, test_looks=1, trials=1)\n"
        "data.start(data.tasks('test')).observe()\n"
        "torch.optim.Adam([torch.zeros(1, requires_grad=True)])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
