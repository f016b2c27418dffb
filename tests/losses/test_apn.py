import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from unlabeled.losses.apn import clipped_nce, cosine, dot, nce, scaled_dot, soft_clip
from unlabeled.losses.contrastive import nt_xent


def across(batch, locations):
    same = torch.eye(batch, dtype=torch.bool).repeat_interleave(locations, 1)
    return same, ~same


def slow(scores, positive, negative):
    losses = []
    for row, yes, no in zip(scores, positive, negative, strict=True):
        against = sum(score.exp() for score, on in zip(row, no, strict=True) if on)
        for score, on in zip(row, yes, strict=True):
            if on:
                losses.append(-(score.exp() / (score.exp() + against)).log())
    return torch.stack(losses).mean()


def test_equals_the_loop():
    positive, negative = across(3, 4)
    negative[0, 5] = False  # neither
    scores = torch.randn(3, 12, dtype=torch.float64)
    torch.testing.assert_close(
        nce(scores, positive, negative)["nce"], slow(scores, positive, negative)
    )
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: nce(s, positive, negative)["nce"], (scores,))


@pytest.mark.parametrize(
    ("batch", "locations", "expected"),
    [(4, 9, 3.3322), (2, 25, 3.258097), (2, 49, 3.912023), (4, 4, 2.564949)],
)
def test_zero_scores_give_the_log_of_the_candidates(batch, locations, expected):
    """YADIM: log(1 + (B - 1) L); AMDIM's and DIM's values are of the same form."""
    terms = clipped_nce(torch.zeros(batch, batch * locations), *across(batch, locations))
    assert terms["nce"].item() == pytest.approx(math.log(1 + (batch - 1) * locations), abs=1e-5)
    assert terms["nce"].item() == pytest.approx(expected, abs=1e-4)
    assert terms["penalty"] == 0


def test_other_positives_of_an_anchor_do_not_matter():
    positive, negative = across(2, 3)
    scores = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    terms = F.softplus(scores[0, 3:].logsumexp(0) - scores[0, 0])
    (gradient,) = torch.autograd.grad(terms, scores)
    assert not gradient[0, 1:3].any()
    moved = scores.detach().clone()
    moved[0, 1] += 5
    change = nce(moved, positive, negative)["nce"] - nce(scores, positive, negative)["nce"]
    against = scores[0, 3:].logsumexp(0)
    expected = F.softplus(against - moved[0, 1]) - F.softplus(against - scores[0, 1])
    torch.testing.assert_close(change, expected / 6)


def test_soft_clip():
    scores = torch.tensor([10.0, 1e4, -1e4, 0.0], requires_grad=True)
    clipped = soft_clip(scores, bound=20.0)
    assert clipped[0].item() == pytest.approx(9.242343, abs=1e-5)
    assert clipped.abs().max() <= 20
    clipped[3].backward()
    assert scores.grad[3] == 1


def test_the_penalty_is_of_the_scores_before_they_are_clipped():
    positive, negative = across(2, 2)
    scores = torch.full((2, 4), 100.0)
    terms = clipped_nce(scores, positive, negative, bound=20.0, penalty=0.05)
    assert terms["penalty"].item() == pytest.approx(500)
    assert terms["nce"].item() == pytest.approx(math.log(3))


def test_similarities():
    a, c = torch.randn(3, 16), torch.randn(5, 16)
    torch.testing.assert_close(dot(a, c), a @ c.T)
    torch.testing.assert_close(scaled_dot(a, c), a @ c.T / 4)
    torch.testing.assert_close(
        cosine(a, c, temperature=0.5), F.cosine_similarity(a[:, None], c[None], dim=2) / 0.5
    )


def test_simclr_is_nce_with_cosine():
    one, two = torch.randn(2, 5, 8, dtype=torch.float64)
    z = torch.cat([one, two])
    place = torch.arange(10)
    positive = place == (place[:, None] + 5) % 10
    negative = ~positive & (place != place[:, None])
    score = partial(cosine, temperature=0.2)
    torch.testing.assert_close(
        nce(score(z, z), positive, negative)["nce"], nt_xent(one, two, temperature=0.2)
    )
