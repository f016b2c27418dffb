from functools import partial

import pytest
import torch

from unlabeled.methods.image import un_mix
from unlabeled.methods.image.byol import BYOL
from unlabeled.methods.image.moco import MoCo
from unlabeled.methods.image.simclr import SimCLR
from unlabeled.methods.image.simsiam import SimSiam
from unlabeled.methods.image.swav import SwAV
from unlabeled.methods.image.un_mix import UnMix
from unlabeled.ops.mixture import Mixture
from unlabeled.schedule import Clock

BASES = {
    "moco": partial(MoCo, dim=8, queue=16, batchnorm_splits=2),
    "simclr": partial(SimCLR, dim=8),
    "byol": partial(BYOL, hidden=16, dim=8),
    "swav": partial(SwAV, hidden=16, dim=8, prototypes=10, freeze_steps=0),
}
each = pytest.mark.parametrize("base", BASES.values(), ids=BASES.keys())


@pytest.fixture
def make(encoder, monkeypatch):
    """make(base, weight): Un-Mix whose mixtures have this weight, in eval mode."""

    def build(base, weight, box=None):
        monkeypatch.setattr(un_mix, "draw_mixture", lambda **options: Mixture(weight, box))
        torch.manual_seed(0)
        method = UnMix(encoder, base=base).double().eval()
        method.clock = Clock(50, 100, 10)
        return method

    return build


def batch_of(views, count=4):
    batch = views(count)
    return {**batch, "views": [view.double() for view in batch["views"]]}


@each
def test_the_original_term_is_the_bases_own_loss(make, views, base):
    method = make(base, 0.3)
    original = method.loss(batch_of(views))["original"]
    torch.manual_seed(0)
    method = make(base, 0.3)
    method.base.clock = method.clock
    (own,) = method.base.loss(batch_of(views)).values()
    torch.testing.assert_close(original, own)


@each
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_mixture_of_one_image_alone_is_that_image(make, views, base, weight):
    """Weight 1: the mixture's query is x1's; weight 0: its reverse's is."""
    terms = make(base, weight).loss(batch_of(views))
    full, empty = ("mixture", "reverse") if weight else ("reverse", "mixture")
    assert terms[empty].item() == 0
    assert terms[full].item() > 0
    if base.func in (MoCo, SimCLR):  # whose own loss has one direction from x1
        torch.testing.assert_close(terms[full], terms["original"])


@each
def test_reversing_the_mixture_and_its_weight_changes_nothing(make, views, base):
    batch = batch_of(views)
    one = make(base, 0.3).loss(batch)
    other = make(base, 0.7).loss(batch)
    torch.testing.assert_close(one["mixture"], other["reverse"])
    torch.testing.assert_close(one["reverse"], other["mixture"])


def test_the_reverse_holds_the_other_share_of_the_same_slot(make, views):
    """A slow form: x1 mixed by hand with weight 1 - lambda, against the same keys."""
    batch = batch_of(views)
    x1, x2 = batch["views"]
    method = make(BASES["simclr"], 0.3)
    terms = method.loss(batch)
    base = method.base
    (expected,) = base.loss({**batch, "views": [0.7 * x1 + 0.3 * x1.flip(0), x2]}).values()
    torch.testing.assert_close(terms["reverse"], 0.7 * expected)
    (expected,) = base.loss({**batch, "views": [0.3 * x1 + 0.7 * x1.flip(0), x2]}).values()
    torch.testing.assert_close(terms["mixture"], 0.3 * expected)


def test_the_queue_gets_the_keys_of_the_unmixed_views_once(make, views):
    method = make(BASES["moco"], 0.4)
    batch = batch_of(views)
    keys = method.base._keys(batch["views"][1])
    before = method.base.queue.rows.clone()
    method.loss(batch)
    torch.testing.assert_close(method.base.queue.rows[:4], keys)
    assert torch.equal(method.base.queue.rows[4:], before[4:])
    assert int(method.base.queue.pointer) == 4


@each
def test_mixed_images_pass_the_student_alone_and_no_teacher(make, views, base):
    method = make(base, 0.4).train()
    method.before_step(lambda function: None)
    seen = []
    method.encoder.register_forward_hook(lambda m, x, y: seen.append(len(x[0])))
    method.loss(batch_of(views))
    assert seen == ([4, 4] if base.func is MoCo else [8, 4] if base.func in (SimCLR, SwAV) else
                    [4, 4, 4])  # fmt: skip


def test_only_known_bases_are_wrapped(encoder):
    with pytest.raises(ValueError, match="base is SimSiam: Un-Mix wraps MoCo, SimCLR, BYOL, SwAV"):
        UnMix(encoder, base=partial(SimSiam, bottleneck=4, dim=8))


@each
def test_the_base_follows_the_clock_and_moves_its_teacher(make, views, base):
    method = make(base, 0.4)
    method.before_step(lambda function: None)
    assert method.base.clock == method.clock
    with torch.no_grad():
        for value in method.encoder.parameters():
            value.add_(1)
    before = [value.clone() for value in method.base.parameters()]
    method.after_step()
    moved = any(
        not torch.equal(a, b) for a, b in zip(before, method.base.parameters(), strict=True)
    )
    assert moved == (base.func in (MoCo, BYOL))


def test_recipe_is_the_authors():
    recipe = un_mix.paper()
    assert (recipe.epochs, recipe.batch_size) == (200, 256)
    with torch.device("meta"):
        method = recipe.build()
    assert (method.global_share, method.beta) == (0.5, 1.0)
    assert (method.base.temperature, method.base.queue.rows.shape) == (0.2, (65536, 128))
