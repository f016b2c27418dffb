"""The report of a run: what is read from its folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny
from unlabeled.artifacts import Run
from unlabeled.ops.patches import cut_patches
from unlabeled.pretraining import pretrain
from unlabeled.report.content import collect, side_by_side
from unlabeled.report.page import render
from unlabeled.report.pictures import picture
from unlabeled.views.generator import SampleGenerator


@pytest.fixture(scope="module", params=["simclr", "swav"])
def run(request, tmp_path_factory):
    torch.manual_seed(0)
    return pretrain(tiny(request.param), out=tmp_path_factory.mktemp("runs") / "run", seed=3)


@pytest.fixture(scope="module")
def content(run):
    return collect(model=run.model(), data=run.recipe.data, scores={}, run=run, points=30)


def test_curves_recipe_and_machine_are_those_of_the_run(run, content):
    loss = next(chart for chart in content.charts if chart.title == "Loss")
    logged = [row[next(k for k in row if k.startswith("loss/"))] for row in run.metrics()]
    assert loss.lines[0].values == pytest.approx(logged)
    assert f"batch_size = {run.recipe.batch_size}" in content.provenance.recipe
    assert content.provenance.overrides == ("seed = 3",)
    assert content.provenance.fingerprint == run.info["fingerprint"]
    page = render(content)
    assert page.count('<figure class="chart"') == len(content.charts)
    for heading in ("How training went", "What the method saw", "How it was made"):
        assert f"<h2>{heading}</h2>" in page


def test_the_views_are_the_first_ones_that_the_method_saw(run, content):
    recipe = run.recipe
    samples = recipe.data.split("train")
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(recipe.seed))
    raw = samples.__getitems__(sorted(order[:6].tolist()))
    batch = recipe.views(raw, SampleGenerator(recipe.seed, 0, raw["index"]))
    (mean,), (std,) = recipe.views.spec.mean, recipe.views.spec.std
    assert len(content.views.rows) == len(batch["views"]) + 1
    for row, view in zip(content.views.rows[1:], batch["views"], strict=True):
        assert row == tuple(picture((image * std + mean).clamp(0, 1)) for image in view)
        assert {shown.width for shown in row} == {view.shape[-1]}  # small crops stay small
    assert content.views.rows[0] == tuple(picture(image.float() / 255) for image in raw["views"][0])


def test_data_that_is_gone_leaves_a_line_in_place_of_the_views(run, content, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    info = json.loads((copy / "recipe.json").read_text())
    info["recipe"]["options"]["data"] = {
        "make": "unlabeled.data.folder:ImageFolder",
        "options": {"path": str(tmp_path / "gone")},
    }
    (copy / "recipe.json").write_text(json.dumps(info))
    found = collect(model=run.model(), data=run.recipe.data, scores={}, run=Run(copy), points=30)
    assert found.views is None
    assert "gone does not exist" in found.views_missing
    assert "gone does not exist" in render(found)
    assert replace(found, views=content.views, views_missing="").charts == content.charts


def test_a_grid_of_patches_is_shown_side_by_side():
    image = torch.randn(2, 3, 12, 8)
    assert side_by_side(image) is image
    grid = cut_patches(image, patch=4, stride=4)
    assert torch.equal(side_by_side(grid), image)


def test_the_page_of_a_patch_method_shows_its_views(tmp_path):
    run = pretrain(replace(tiny("cpc"), steps=1), out=tmp_path / "run", logger=False)
    content = collect(model=run.model(), data=run.recipe.data, scores={}, run=run, points=30)
    assert content.views.names == ("image", "view 1 (24 px)")
    assert render(content)
