from functools import partial

import pytest
import torch
import torch.nn.functional as F

from unlabeled.losses.contrastive import nt_xent
from unlabeled.losses.multi_positive import multi_positive_nt_xent
from unlabeled.methods.image import adpclr, simclr
from unlabeled.methods.image.adpclr import AdpCLR, all_named, close, mined, mutual, neighbors_at
from unlabeled.schedule import Clock


def loss_of(method, batch):
    (value,) = method.loss(batch).values()
    return value


def on_circle(*degrees):
    angle = torch.tensor(degrees) * torch.pi / 180
    return torch.stack([angle.cos(), angle.sin()], 1)


def places(accepted):
    return [row.nonzero().flatten().tolist() for row in accepted]


# samples at 0, 10, 25 and 180 degrees; the second views are turned by one degree
ONE, TWO = on_circle(0.0, 10.0, 25.0, 180.0), on_circle(1.0, 11.0, 26.0, 181.0)


def test_nearest_of_a_hand_made_batch():
    """2's nearest is 1, whose nearest is 0; 3's nearest is 2 from either view."""
    assert places(mined(ONE, TWO, count=1, rule=all_named)) == [[1], [0], [1], [2]] * 2
    assert places(mined(ONE, TWO, count=1, rule=mutual)) == [[1], [0], [], []] * 2
    assert places(mined(ONE, TWO, count=2, rule=all_named)) == [[1, 2], [0, 2], [0, 1], [1, 2]] * 2
    assert places(mined(ONE, TWO, count=2, rule=mutual)) == [[1, 2], [0, 2], [0, 1], []] * 2


def test_close_takes_neighbors_about_as_similar_as_two_views():
    # views agree at cos(1 degree); sample 1 is 9 degrees from 0, sample 2 14 degrees from 1
    for margin, expected in ((0.002, []), (0.02, [1]), (0.2, [1, 2])):
        rule = partial(close, margin=margin)
        assert places(mined(ONE, TWO, count=3, rule=rule))[0] == expected
    strict = partial(close, margin=0.0)
    assert not mined(ONE, TWO, count=3, rule=strict).any()


def test_mutual_is_on_the_level_of_samples():
    """One view naming it is enough: here only the second view of sample 1 has 0 as its nearest."""
    one, two = on_circle(0.0, 40.0, 55.0), on_circle(1.0, 20.0, 56.0)
    assert places(mined(one, two, count=1, rule=all_named)) == [[1], [2], [1], [1], [0], [1]]
    assert places(mined(one, two, count=1, rule=mutual)) == [[1], [2], [1], [1], [0], [1]]


def test_a_sample_is_as_near_as_its_nearer_view():
    """From 0, sample 1 is at 50 and 10 degrees, sample 2 at 30 in both views."""
    one, two = on_circle(0.0, 50.0, 30.0), on_circle(0.0, 10.0, 30.0)
    assert places(mined(one, two, count=1, rule=all_named))[0] == [1]
    assert places(mined(two, one, count=1, rule=all_named))[0] == [1]


def test_an_anchors_own_sample_is_never_mined():
    z = torch.randn(8, 4)
    for rule in (all_named, mutual, close):
        accepted = mined(z, z + 1e-3 * torch.randn(8, 4), count=7, rule=rule)
        assert not accepted[torch.arange(16), torch.arange(8).repeat(2)].any()
    assert torch.equal(mined(z, z, count=7, rule=all_named).sum(1), torch.full((16,), 7.0))


def test_as_many_neighbors_as_samples_is_refused():
    z = torch.randn(4, 3)
    with pytest.raises(ValueError, match="neighbors is 4, the batch has 4 samples"):
        mined(z, z, count=4, rule=mutual)


def test_neighbors_grow_in_equal_steps_after_the_warmup():
    def counts(warmup, most=4):
        return [neighbors_at(Clock(step, 128, 10), most=most, warmup=warmup) for step in range(129)]

    grown = counts(0.25)
    assert grown[:32] == [0] * 32
    assert [grown.count(k) for k in (1, 2, 3)] == [24, 24, 24]
    assert grown == sorted(grown)
    assert grown[-1] == 4
    assert counts(0.0)[0] == 1  # the pretrained version mines from its first step
    assert set(counts(1.0)[:128]) == {0}
    assert set(counts(0.0, most=0)) == {0}


def test_the_warmup_is_simclr(given, no_head, pair):
    method = AdpCLR(given(4), head=no_head, warmup=0.3)
    batch = pair(torch.randn(6, 4), torch.randn(6, 4))
    method.clock = Clock(29, 100, 10)
    torch.testing.assert_close(loss_of(method, batch), nt_xent(*batch["views"], temperature=0.1))
    method.clock = Clock(31, 100, 10)
    assert loss_of(method, batch) != nt_xent(*batch["views"], temperature=0.1)


def test_true_classes_as_neighbors_are_supervised_contrast(given, no_head, pair):
    """Two clusters: with all classmates mined at full weight the loss is SupCon's."""
    label = torch.tensor([0, 0, 0, 1, 1, 1])
    z = F.one_hot(label, 4).float() + 0.1 * torch.randn(6, 4)
    batch = pair(z, z + 0.1 * torch.randn(6, 4))
    method = AdpCLR(given(4), head=no_head, neighbors=2, warmup=0.0, weight=1.0, temperature=0.5)
    method.clock = Clock(99, 100, 10)
    same = (label[:, None] == label).float().repeat(2, 1)
    expected = multi_positive_nt_xent(*batch["views"], same, temperature=0.5)
    torch.testing.assert_close(loss_of(method, batch), expected)


def test_gradient_attracts_mined_samples_though_their_choice_has_none(given, no_head, pair):
    one, two = ONE.clone().requires_grad_(), TWO
    method = AdpCLR(given(2), head=no_head, warmup=0.0, weight=1.0, neighbors=1, temperature=0.5)
    plain = AdpCLR(given(2), head=no_head, warmup=1.0, temperature=0.5)
    assert not mined(one, two, count=1, rule=mutual).requires_grad

    def after(model):
        (slope,) = torch.autograd.grad(loss_of(model, pair(one, two)), one)
        return F.cosine_similarity(one[0] - 0.1 * slope[0], one[1] - 0.1 * slope[1], dim=0)

    assert after(method) > F.cosine_similarity(one[0], one[1], dim=0)
    assert after(method) > after(plain)


def test_refuses_shares_outside_of_0_and_1(given):
    for options in ({"neighbors": -1}, {"warmup": 1.5}, {"weight": -0.1}):
        with pytest.raises(ValueError, match="give at least 0"):
            AdpCLR(given(4), **options)


def test_recipes_differ_from_simclr_in_the_method_only():
    base, full, pre = simclr.paper(), adpclr.paper(), adpclr.pre()
    for recipe in (full, pre):
        assert (recipe.data, recipe.views, recipe.batch_size) == (
            base.data, base.views, base.batch_size,
        )  # fmt: skip
    assert (full.epochs, pre.epochs) == (1600, 100)
    assert full.optim.lr.keywords == base.optim.lr.keywords
    clocks = [Clock(step, 1000, 10) for step in (0, 100, 500)]
    assert [pre.optim.lr(c) for c in clocks] == pytest.approx(
        [base.optim.lr(c) / 10 for c in clocks]
    )
    with torch.device("meta"):
        assert pre.build().warmup == 0.0
