"""Representation extraction (nn/apn.py): who is positive and negative to whom."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from unlabeled.losses.apn import clipped_nce, cosine, dot, nce, scaled_dot
from unlabeled.losses.contrastive import nt_xent
from unlabeled.losses.prediction import future_nce
from unlabeled.nn.apn import (
    CrossScale,
    FutureRows,
    LastMap,
    Projected,
    ResidualHead,
    across_samples,
    random_locations,
)
from unlabeled.nn.context import RowContext
from unlabeled.views.generator import SampleGenerator


class Given(nn.Module):
    """The maps are the input."""

    def maps(self, x):
        return x

    def scales(self, x):
        return x.mean((2, 3), keepdim=True), x[:, :, :5, :5], x

    def forward(self, x):
        return x.mean((2, 3))


def streams(count):
    return SampleGenerator(0, 0, torch.arange(count))


def test_all_locations_of_the_own_image_are_positive_and_all_others_negative():
    maps = torch.randn(3, 4, 2, 2)
    apn = across_samples(torch.randn(3, 4), maps)
    assert apn.candidate.shape == (12, 4)
    assert torch.equal(apn.candidate[4:8], maps[1].flatten(1).T)
    for image in range(3):
        expected = [place // 4 == image for place in range(12)]
        assert apn.positive[image].tolist() == expected
    assert torch.equal(apn.negative, ~apn.positive)


def test_random_locations_are_of_the_map_and_uniform():
    maps = torch.arange(9.0).view(1, 1, 3, 3).expand(900, 1, 3, 3)
    found = random_locations(maps, streams(900))
    counts = found[:, 0].long().bincount(minlength=9)
    assert counts.min() > 60
    assert random_locations(torch.ones(5, 2, 1, 1), streams(5)).shape == (5, 2)


def test_gradient_goes_to_the_chosen_location_alone():
    maps = torch.randn(4, 3, 2, 2, requires_grad=True)
    random_locations(maps, streams(4)).sum().backward()
    assert (maps.grad.abs().sum(1).flatten(1) > 0).sum(1).tolist() == [1, 1, 1, 1]


def test_the_head_starts_near_the_identity_and_is_normalized():
    head = ResidualHead(4, 6).eval()
    x = torch.randn(2, 4, 3, 3)
    out = head(x)
    assert (out[:, :4] - x).abs().max() < 0.2
    assert out[:, 4:].abs().max() < 0.2
    out = head.train()(x * 5 + 3)
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(6), atol=1e-5, rtol=0)


def test_yadim_compares_both_ways():
    maps = torch.randn(2, 3, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    extract = LastMap(4, 8).double()
    ((one, two),) = extract(Given(), [maps[0], maps[1]], streams(3))
    # the head is shared, and both views pass it as one batch
    heads = extract.head(torch.cat([maps[0], maps[1]]))
    torch.testing.assert_close(one.candidate, heads[3:].flatten(2).mT.flatten(0, 1))
    torch.testing.assert_close(two.candidate, heads[:3].flatten(2).mT.flatten(0, 1))
    assert any(torch.allclose(one.anchor[0], row) for row in heads[0].flatten(1).T)
    total = sum(nce(scaled_dot(a.anchor, a.candidate), *a[2:])["nce"] for a in (one, two))
    total.backward()
    assert (maps.grad.abs().sum((2, 3, 4)) > 0).all()


def test_zero_maps_give_the_closed_forms_of_amdim():
    """L_15 = log(1 + (B - 1) 25), L_17 = log(1 + (B - 1) 49), L_55 = L_15."""
    extract = CrossScale(4, 4)
    extract.head5, extract.head7 = nn.Identity(), nn.Identity()
    x = torch.zeros(2, 4, 7, 7)
    tasks = extract(Given(), [x, x], streams(2))
    values = [
        [clipped_nce(scaled_dot(a.anchor, a.candidate), *a[2:])["nce"].item() for a in task]
        for task in tasks
    ]
    assert values == [
        pytest.approx([expected] * 2, abs=1e-5) for expected in (3.258097, 3.912023, 3.258097)
    ]
    assert math.log(26) == pytest.approx(3.258097, abs=1e-5)


def test_amdim_predicts_from_one_view_to_the_other():
    extract = CrossScale(4, 4).double()
    extract.head5, extract.head7 = nn.Identity(), nn.Identity()
    one, two = torch.randn(2, 2, 4, 7, 7, dtype=torch.float64)
    (to5, _), (to7, _), (local, _) = extract(Given(), [one, two], streams(2))
    torch.testing.assert_close(to5.anchor, one.mean((2, 3)))
    torch.testing.assert_close(to5.candidate, two[:, :, :5, :5].flatten(2).mT.flatten(0, 1))
    assert len(to7.candidate) == 98
    assert any(torch.equal(local.anchor[0], v) for v in one[0, :, :5, :5].flatten(1).T)


def test_cpc_is_its_own_loss():
    extract = FutureRows(4, context=partial(RowContext, hidden=8, blocks=2), steps=(1, 2)).double()
    z = torch.randn(3, 4, 4, 2, dtype=torch.float64)
    (task,) = extract(Given(), [z], streams(3))
    context = extract.context(z)
    for apn, step, layer in zip(task, (1, 2), extract.future.maps, strict=True):
        expected = future_nce(layer(context[:, :, :-step]), z, step=step)
        torch.testing.assert_close(nce(dot(apn.anchor, apn.candidate), *apn[2:])["nce"], expected)


def test_simclr_is_nt_xent():
    extract = Projected(4, head=lambda width: nn.Linear(width, 3)).double()
    one, two = torch.randn(2, 5, 4, 2, 2, dtype=torch.float64)
    (((anchor, candidate, positive, negative),),) = extract(Given(), [one, two], streams(5))
    z = extract.projector(torch.cat([one, two]).mean((2, 3)))
    expected = nt_xent(z[:5], z[5:], temperature=0.3)
    scores = cosine(anchor, candidate, temperature=0.3)
    torch.testing.assert_close(nce(scores, positive, negative)["nce"], expected)
