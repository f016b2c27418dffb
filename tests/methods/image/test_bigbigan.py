from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.tiny import BATCH, tiny
from unlabeled.method import Clock
from unlabeled.methods.image.bigbigan import adam
from unlabeled.pretraining import pretrain
from unlabeled.registry import find_recipe
from unlabeled.schedule import constant
from unlabeled.views.generator import SampleGenerator

QUIET = {"logger": False, "checkpoint_seconds": 1e9, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def recipe():
    return tiny("bigbigan")


@pytest.fixture
def method(recipe):
    torch.manual_seed(0)
    return recipe.build()


@pytest.fixture(scope="module")
def batch(recipe):
    raw = recipe.data.split("train").__getitems__(list(range(BATCH)))
    return recipe.views(raw, SampleGenerator(0, 0, raw["index"]))


def reached(value, *modules):
    """Which modules' parameters a value's gradient reaches."""
    names = []
    for module in modules:
        found = torch.autograd.grad(
            value.sum(), list(module.parameters()), allow_unused=True, retain_graph=True
        )
        names.append(any(each is not None and each.abs().sum() > 0 for each in found))
    return names


def test_constants_give_no_gradient_and_each_player_is_scored_by_the_other_parts(method, batch):
    """s_z of the prior and s_x of real images are constants to E and G."""
    real, made = method._scores(*method._pairs(batch))
    players = (method.encoder, method.posterior, method.generator)
    assert reached(real.x, *players) == [False, False, False]
    assert reached(real.z, *players) == [True, True, False]
    assert reached(real.xz, *players) == [True, True, False]
    assert reached(made.x, *players) == [False, False, True]
    assert reached(made.z, *players) == [False, False, False]
    assert reached(made.xz, *players) == [False, False, True]


def test_the_critic_sees_pairs_without_gradient(method, batch):
    (cost,) = method.critic(batch).values()
    cost.backward()
    players = (method.encoder, method.posterior, method.generator)
    assert all(value.grad is None for part in players for value in part.parameters())
    assert all(value.grad is not None for value in method.discriminator.parameters())


def test_scores_are_of_pairs_and_of_each_part_alone(method, batch):
    x, latent, made, z = method._pairs(batch)
    assert x.shape == made.shape == (BATCH, 1, 8, 8)  # half the encoder's side
    assert batch["views"][0].shape == (BATCH, 1, 16, 16)
    scores = method.discriminator.eval()
    whole, mixed = scores(x, latent), scores(x, z)
    assert whole.x.shape == whole.z.shape == whole.xz.shape == (BATCH,)
    assert torch.equal(whole.x, mixed.x)
    assert not torch.allclose(whole.z, mixed.z)
    assert not torch.allclose(whole.xz, mixed.xz)


def test_latents_are_drawn_anew_in_every_play_and_the_encoder_is_stochastic(method, batch):
    method.eval()
    found = {}
    for step, play in ((0, 0), (0, 1), (0, 2), (1, 0), (0, 0)):
        method.clock = Clock(step, 10, 5, play)
        _, latent, _, z = method._pairs(batch)
        found.setdefault((step, play), []).append((latent, z))
    first, again = found.pop((0, 0))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    for ((latent, z),) in found.values():
        assert not torch.allclose(latent, first[0])
        assert not torch.allclose(z, first[1])
    mean, deviation = method.posterior.parameters_of(method.encoder(batch["views"][0]))
    off = (first[0] - mean) / deviation
    assert abs(off.mean().item()) < 0.1
    assert abs(off.std().item() - 1) < 0.1


def test_encoder_and_generator_do_not_move_in_the_discriminators_turns(recipe, tmp_path):
    """Their own turn has the rate 0 here."""
    still = replace(
        recipe,
        steps=2,
        optim={"discriminator": adam(constant(1e-3)), "encoder_generator": adam(constant(0.0))},
    )
    torch.manual_seed(still.seed)
    start = dict(still.build().named_parameters())
    run = pretrain(still, out=tmp_path / "run", **QUIET)
    moved = {
        name.partition(".")[0]
        for name, value in run.model().method.named_parameters()
        if not torch.equal(value, start[name])
    }
    assert moved == {"discriminator"}


def test_two_steps_of_the_discriminator_and_one_of_the_others(method):
    turns = method.turns()
    assert list(turns) == ["discriminator", "encoder_generator"]
    assert [turn.repeats for turn in turns.values()] == [2, 1]


def test_spectral_norms_are_in_the_discriminator_and_generator_alone(method):
    def spectral(module):
        layers = [m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        return {hasattr(layer, "parametrizations") for layer in layers}

    assert spectral(method.discriminator) == spectral(method.generator) == {True}
    assert spectral(method.encoder) == spectral(method.posterior) == {False}


def test_samples_come_from_the_average(method):
    before = {name: value.clone() for name, value in method.average.named_parameters()}
    with torch.no_grad():
        for value in method.generator.parameters():
            value.add_(1.0)
        method.generator.norm.running_mean.fill_(3.0)
    method.after_step()
    for name, value in method.average.named_parameters():
        torch.testing.assert_close(value, before[name] + (1 - method.momentum))
    assert (method.average.module.norm.running_mean == 3).all()
    method.eval()
    draws = [method.sample(4, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert draws[0].shape == (4, 1, 8, 8)
    assert draws[0].min() >= 0
    assert draws[0].max() <= 1
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    z = torch.randn(4, method.generator.latent, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(draws[0], method.average(z) / 2 + 0.5)


def test_reconstructions_pass_the_mean_latent(method, batch):
    method.eval()
    view = batch["views"][0]
    found = method.reconstruct(view / 2 + 0.5)
    mean, _ = method.posterior.parameters_of(method.encoder(view))
    torch.testing.assert_close(found, method.average(mean) / 2 + 0.5, rtol=1e-4, atol=1e-5)


def test_values_must_be_symmetric(recipe):
    with pytest.raises(ValueError, match="give Symmetric views of a side that 2"):
        replace(recipe, views=recipe.views.views.fit(recipe.data.spec())).build()


def test_the_papers_setting():
    recipe = find_recipe("bigbigan:paper")
    with torch.device("meta"):
        method = recipe.build()
    assert method.generator.size == 128
    assert method.encoder.spec.size == 256
    assert method.encoder.dim == 2048
    assert method.discriminator.image.dim == 1536
    assert len(method.discriminator.joint.first) == 4  # eight layers
    assert method.discriminator.joint.shortcut.in_features == 1536 + 2048
    assert len(method.posterior.body.first) == 2
    assert method.posterior.linear.out_features == 240
