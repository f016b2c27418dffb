from functools import partial

import pytest
import torch

from unlabeled.data.rooms import RoomPairs
from unlabeled.encoders.flow import pwc_lite
from unlabeled.method import Clock
from unlabeled.methods.geometry.arflow import ARFlow, paper, small
from unlabeled.schedule import constant, stairs
from unlabeled.views.flow import FlowAnalogy
from unlabeled.views.generator import SampleGenerator

ROOMS = RoomPairs(height=16, width=32, train=3, test=1)
BUILD = partial(
    pwc_lite, widths=(4, 8, 8), decoder=(8, 8, 8), context=(8, 8), features=4, radius=2, skip=0
)


def batch_of(count=4):
    raw = ROOMS.split("train").__getitems__(list(range(count)))
    views = FlowAnalogy(unit=8, parts=12, holes=(1, 2)).fit(ROOMS.spec())
    return views(raw, SampleGenerator(0, 0, raw["index"]))


def method(**options):
    torch.manual_seed(0)
    return ARFlow(BUILD(ROOMS.spec()), **options)


def test_analogies_send_no_gradient_to_the_first_pass(monkeypatch):
    """With the second passes' outputs cut off, nothing is left of their terms' gradients."""
    made = method(analogy=constant(1.0))
    batch = batch_of()
    flows = made.encoder.flows
    calls = []

    def counted(pairs):
        calls.append(len(pairs))
        found = flows(pairs)
        return found if len(calls) == 1 else [flow.detach() for flow in found]

    monkeypatch.setattr(made.encoder, "flows", counted)
    terms = made.loss(batch)
    assert calls == [8, 4, 4], "both directions once, then forward twice"
    assert terms["photometric"].requires_grad
    assert not terms["analogy"].requires_grad
    assert not terms["hidden"].requires_grad


def test_a_network_that_follows_the_maps_has_no_analogy_loss():
    """No motion, seen through two equal maps, is no motion; the crop's flow is the frame's."""
    made = method(analogy=constant(1.0))
    for layer in (made.encoder.decoder.predict, made.encoder.context[-1]):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    batch = batch_of()
    batch["maps"] = [batch["maps"][0]] * 2
    terms = made.loss(batch)
    assert terms["analogy"].item() < 1e-4
    assert terms["hidden"].item() == 0
    assert terms["smooth"].item() == 0


def test_alike_frames_without_motion_have_no_photometric_loss():
    made = method(structure=constant(1.0), census=constant(1.0), smooth=0.0, analogy=constant(0.0))
    for layer in (made.encoder.decoder.predict, made.encoder.context[-1]):
        torch.nn.init.zeros_(layer.weight)
    batch = batch_of()
    batch["views"][0][:, 1] = batch["views"][0][:, 0]
    assert made.loss(batch)["photometric"].item() < 1e-4


def test_losses_come_and_go_by_the_clock():
    made = method(
        structure=stairs(1.0, 0.0, at=(0.25,)),
        census=stairs(0.0, 1.0, at=(0.25,)),
        analogy=stairs(0.0, 0.01, at=(0.5,)),
    )
    batch, found = batch_of(), {}
    for step in (0, 24, 25, 49, 50):
        made.clock = Clock(step, 100, 10)
        found[step] = made.loss(batch)
    assert found[0]["photometric"] == found[24]["photometric"]
    assert found[25]["photometric"] == found[50]["photometric"] != found[0]["photometric"]
    assert set(found[49]) == {"photometric", "smooth"}
    assert set(found[50]) == {"photometric", "smooth", "analogy", "hidden"}


def test_what_lands_nowhere_is_left_out():
    """A frame shifted by 4 px: with the true flow, what has left the frame costs nothing."""
    made = method(
        structure=constant(1.0), census=constant(0.0), smooth=0.0, levels=(1,),
        analogy=constant(0.0),
    )  # fmt: skip
    wide = torch.rand(1, 3, 16, 36)
    pair = torch.stack([wide[..., 4:], wide[..., :-4]], 1)  # content moves right by 4
    there = torch.zeros(1, 2, 16, 32)
    there[:, 0] = 4
    both = torch.cat([there, -there])
    made.encoder.flows = lambda pairs: [both]
    loss = made.loss({"views": [pair, None, None], "index": torch.arange(1)})
    assert loss["photometric"].item() < 1e-5


def test_the_recipes_are_the_papers_and_the_note_s():
    recipe = paper()
    assert (recipe.steps, recipe.batch_size) == (200_000, 4)
    assert recipe.method.keywords["analogy"](Clock(99_999, 200_000, 1)) == 0
    assert recipe.method.keywords["analogy"](Clock(100_000, 200_000, 1)) == 0.01
    assert small().method.keywords["smooth"] < 10, "divided by a short side, smoothness is strong"
    with pytest.raises(ValueError, match="2 values and 2 shares"):
        stairs(0.0, 1.0, at=(0.2, 0.4))
