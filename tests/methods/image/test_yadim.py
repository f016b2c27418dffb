import math
from functools import partial

import pytest
import torch
from torch import nn

from tests.tiny import tiny
from unlabeled.data.source import ImageSpec
from unlabeled.losses.apn import clipped_nce, scaled_dot
from unlabeled.method import Clock
from unlabeled.methods.image import cpc, simclr, yadim
from unlabeled.methods.image.yadim import Contrast, last_map
from unlabeled.recipe import describe, fingerprint, rebuild
from unlabeled.registry import find_recipe
from unlabeled.views.generator import SampleGenerator

PRESETS = ("small", "small_amdim", "small_cpc", "small_simclr")
SPEC = ImageSpec(channels=1, size=28, mean=(0.2860,), std=(0.3530,))


def batch_of(recipe, count=4):
    index = torch.arange(count)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, 28, 28), generator=generator).byte()
    return recipe.views({"views": [images], "index": index}, SampleGenerator(0, 0, index))


class Maps(nn.Module):
    """The map is the input."""

    local_dim = dim = 4

    def maps(self, x):
        return x


def test_zero_maps_give_the_log_of_the_candidates():
    """B = 4, 9 locations: log 28."""
    method = Contrast(
        Maps(), extract=partial(last_map, dim=4), similarity=scaled_dot, loss=partial(clipped_nce)
    )
    method.extract.head = nn.Identity()
    x = torch.zeros(4, 4, 3, 3)
    terms = method.loss({"views": [x, x], "index": torch.arange(4)})
    assert terms["nce"].item() == pytest.approx(math.log(28), abs=1e-5)
    assert terms["penalty"].item() == 0


def test_scores_are_divided_then_penalized_then_clipped():
    method = Contrast(
        Maps(), extract=partial(last_map, dim=4), similarity=scaled_dot, loss=partial(clipped_nce)
    )
    method.extract.head = nn.Identity()
    one, two = 10 * torch.randn(2, 3, 4, 1, 1, dtype=torch.float64)
    terms = method.loss({"views": [one, two], "index": torch.arange(3)})
    scores = one.flatten(1) @ two.flatten(1).T / 2
    torch.testing.assert_close(terms["penalty"], 0.05 * scores.square().mean())
    clipped = 20 * torch.tanh(scores / 20)
    both = [-(s.log_softmax(1)).diagonal().mean() for s in (clipped, clipped.T)]
    torch.testing.assert_close(terms["nce"], sum(both) / 2)


def test_locations_are_drawn_anew_each_step():
    recipe = tiny("yadim")
    method = recipe.build().eval()
    raw = recipe.data.split("train").__getitems__(list(range(16)))
    batch = recipe.views(raw, SampleGenerator(0, 0, raw["index"]))
    values = []
    for step in (0, 0, 1):
        method.clock = Clock(step, 10, 5)
        values.append(method.loss(batch)["nce"].item())
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("preset", PRESETS)
def test_each_method_is_a_recipe_of_the_five_parts(preset):
    recipe = find_recipe(f"yadim:{preset}")
    assert recipe.method.func is Contrast
    assert fingerprint(rebuild(describe(recipe))) == fingerprint(recipe)
    recipe = recipe.fitted()
    torch.manual_seed(0)
    method = recipe.build()
    terms = method.loss(batch_of(recipe))
    total = sum(terms.values())
    assert total.isfinite()
    total.backward()
    assert all(value.grad is not None for value in method.parameters())
    assert method.encoder(torch.randn(2, 1, *[recipe.views.spec.size] * 2)).shape[0] == 2


def test_cpc_in_parts_is_cpc():
    recipe = yadim.small_cpc().fitted()
    whole = cpc.small().fitted().build()
    parts = recipe.build()
    parts.encoder.load_state_dict(whole.encoder.state_dict())
    parts.extract.context.load_state_dict(whole.context.state_dict())
    parts.extract.future.load_state_dict(whole.future.state_dict())
    batch = batch_of(recipe)
    torch.testing.assert_close(parts.loss(batch)["nce"], whole.loss(batch)["info_nce"])
    assert recipe.views == cpc.small().fitted().views


def test_simclr_in_parts_is_simclr():
    recipe = yadim.small_simclr().fitted()
    whole = simclr.small().fitted().build()
    parts = recipe.build()
    parts.encoder.load_state_dict(whole.encoder.state_dict())
    parts.extract.projector.load_state_dict(whole.projector.state_dict())
    batch = batch_of(recipe)
    torch.testing.assert_close(parts.loss(batch)["nce"], whole.loss(batch)["nt_xent"])


def test_amdim_in_parts_has_three_tasks_whose_losses_add_up():
    recipe = yadim.small_amdim().fitted()
    method = recipe.build()
    batch = batch_of(recipe)
    generator = SampleGenerator(0, 0, batch["index"])
    tasks = method.extract(method.encoder, batch["views"], generator)
    expected = {"nce": 0.0, "penalty": 0.0}
    for task in tasks:
        assert len(task) == 2
        for apn in task:
            scores = apn.anchor @ apn.candidate.T / apn.anchor.shape[1] ** 0.5
            for name, term in clipped_nce(scores, apn.positive, apn.negative).items():
                expected[name] += term / 2
    assert len(tasks) == 3
    found = method.loss(batch)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_the_papers_encoder_ends_in_a_map():
    recipe = yadim.paper().fitted()
    with torch.device("meta"):
        method = recipe.build()
        assert method.encoder.maps(torch.empty(1, 3, 128, 128)).shape == (1, 2560, 5, 5)
    assert recipe.views.spec.size == 128
