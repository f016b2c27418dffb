import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.speech import write_speech
from unlabeled.data import get
from unlabeled.data.source import ImageSpec, WaveSpec
from unlabeled.data.waves import WaveFolder
from unlabeled.encoders.patches import patch_resnet
from unlabeled.encoders.speech import wave_encoder
from unlabeled.evaluation import evaluate
from unlabeled.losses.prediction import future_nce
from unlabeled.method import Clock
from unlabeled.methods.image import cpc
from unlabeled.methods.image.cpc import CPC, AudioCPC
from unlabeled.nn.context import RowContext
from unlabeled.pretraining import pretrain
from unlabeled.recipe import describe, fingerprint, rebuild
from unlabeled.registry import find_recipe
from unlabeled.schedule import cosine

SPEC = ImageSpec(channels=1, size=16, mean=(0.5,), std=(0.5,))
QUIET = {"logger": False, "checkpoint_seconds": 1e9, "accelerator": "cpu"}


def image_method(steps=5):
    encoder = patch_resnet(SPEC, widths=(8,), blocks=(1,), hidden=None, stem_width=8,
                           stem_kernel=3, stem_pool=False)  # fmt: skip
    return CPC(encoder, context=partial(RowContext, hidden=8, blocks=2), steps=steps).double()


def images(count=3):
    x = torch.randn(count, 1, 16, 16, dtype=torch.float64)
    return {"views": [x], "index": torch.arange(count)}


def test_zero_predictors_give_the_log_of_all_patches():
    method = image_method()
    for layer in method.future.maps:
        torch.nn.init.zeros_(layer.weight)
    assert method.loss(images(4))["info_nce"].item() == pytest.approx(math.log(4 * 49))


def test_the_loss_is_the_mean_over_steps_with_a_map_each():
    method, batch = image_method(steps=2), images()
    z = method.encoder.maps(batch["views"][0])
    c = method.context(z)
    parts = [
        future_nce(layer(c[:, :, :-step]), z, step=step)
        for step, layer in zip((1, 2), method.future.maps, strict=True)
    ]
    torch.testing.assert_close(method.loss(batch)["info_nce"], sum(parts) / 2)
    assert not torch.equal(method.future.maps[0].weight, method.future.maps[1].weight)


def test_steps_end_with_the_grid():
    assert image_method(steps=5).future.steps == (1, 2, 3, 4, 5)
    assert image_method(steps=9).future.steps == (1, 2, 3, 4, 5, 6)


def test_gradients_flow_through_targets_and_contexts():
    method, batch = image_method(), images()
    z = method.encoder.maps(batch["views"][0]).detach().requires_grad_()
    method.future(method.context(z.detach()), z).mean().backward()
    assert (z.grad[:, :, 0].abs() > 0).any()  # row 0 is a negative only
    method.zero_grad()
    method.loss(batch)["info_nce"].backward()
    assert all(value.grad.abs().sum() > 0 for value in method.parameters())


def test_the_papers_numbers():
    recipe = cpc.paper().fitted()
    with torch.device("meta"):
        method = recipe.build()
    assert (method.encoder.dim, method.encoder.rows) == (1024, 7)
    assert method.future.steps == (1, 2, 3, 4, 5)
    assert method.encoder.net.stem[0].in_channels == 1  # gray
    assert recipe.optim.lr(Clock(5, 10, 1)) == 2e-4
    views = recipe.views
    assert (views.spec.size, views.patch, views.stride, views.inner) == (256, 1 / 4, 1 / 8, 60 / 64)


# Audio --------------------------------------------------------------------------------------------


def audio_method(steps=2, length=1600):
    spec = WaveSpec(rate=8000, length=length, std=1.0)
    return AudioCPC(wave_encoder(spec, width=8, dim=8), steps=steps).double()


def windows(count=3, length=1600):
    return {
        "views": [torch.randn(count, length, dtype=torch.float64)],
        "index": torch.arange(count),
    }


def test_audio_equals_its_equation():
    method, batch = audio_method(), windows()
    z = method.encoder.latents(batch["views"][0])
    c = method.encoder.context(z)
    every = z.mT.flatten(0, 1)
    parts = []
    for step, layer in zip((1, 2), method.future.maps, strict=True):
        weight = layer.weight[:, :, 0, 0]
        losses = [
            torch.logsumexp(every @ (weight @ c[b, t]), 0) - z[b, :, t + step] @ weight @ c[b, t]
            for b in range(3)
            for t in range(c.shape[1] - step)
        ]
        parts.append(torch.stack(losses).mean())
    torch.testing.assert_close(method.loss(batch)["info_nce"], sum(parts) / 2)


def test_audio_gradients_reach_everything():
    method = audio_method()
    method.loss(windows())["info_nce"].backward()
    assert all(value.grad.abs().sum() > 0 for value in method.parameters())


@pytest.mark.parametrize("preset", ["audio_paper", "audio_small"])
def test_audio_recipes_build_and_have_a_canonical_text(preset):
    recipe = find_recipe(f"cpc:{preset}")
    with torch.device("meta"):
        method = recipe.build()
    steps, dim = (12, 256) if preset == "audio_paper" else (6, 64)
    assert (len(method.future.steps), method.encoder.dim) == (steps, dim)
    assert fingerprint(rebuild(describe(recipe))) == fingerprint(recipe)


def tiny(folder: Path, **changes):
    recipe = find_recipe("cpc:audio_small")
    encoder = partial(wave_encoder, width=32, dim=32)
    data = WaveFolder(str(folder), rate=8000, length=4096)
    return replace(recipe, data=data, encoder=encoder, **changes)


@pytest.fixture(scope="module")
def speech(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    write_speech(folder, speakers=4, each=40)
    return folder


def test_audio_resumes_bit_for_bit_and_is_judged(speech, tmp_path):
    from tests.test_conformance import KillAt, Killed, Losses

    recipe = tiny(speech, epochs=1, steps=6)
    straight = pretrain(recipe, out=tmp_path / "straight", **QUIET)
    options = {**QUIET, "checkpoint_seconds": 0.0, "callbacks": [KillAt(3)]}
    with pytest.raises(Killed):
        pretrain(recipe, out=tmp_path / "broken", **options)
    losses = Losses()
    resumed = pretrain(recipe, out=tmp_path / "broken", callbacks=[losses], **QUIET)
    assert 0 < len(losses.values) < 6
    one, other = (run.model().encoder.state_dict() for run in (straight, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)
    scores = evaluate(straight, protocols=("knn",), random_seeds=1)
    assert {row.name for row in scores.rows if row.protocol.startswith("knn")} > {"random weights"}


@pytest.mark.learns
def test_audio_learns_to_tell_real_voices_apart(tmp_path):
    get("asterisk")
    recipe = find_recipe("cpc:audio_small")
    narrow = replace(
        recipe,
        encoder=partial(wave_encoder, width=32, dim=32),
        optim=replace(recipe.optim, lr=cosine(2e-3, warmup=0.3)),
        epochs=2,
    )
    run = pretrain(narrow, out=tmp_path / "run", **QUIET)
    scores = evaluate(run, protocols=("linear",), random_seeds=1, name="cpc", precision="32-true")
    found = {row.name: row.value for row in scores.rows if row.protocol.startswith("linear")}
    assert found["cpc"] > found["random weights"] + 5
    assert found["cpc"] > found["raw input"] + 20
