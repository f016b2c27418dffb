import math

import pytest
import torch

from unlabeled.losses.contrastive import nt_xent
from unlabeled.losses.debiased import debiased_nt_xent, log_debiased_mean


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def slow(views, temperature, prior):
    """Section 4 of the paper, anchor by anchor."""
    views = [view / view.norm(dim=1, keepdim=True) for view in views]
    count, total = len(views[0]), 0.0
    for sample in range(count):
        for anchor, partner in ((0, 1), (1, 0)):

            def s(other, anchor=views[anchor][sample]):
                return (anchor @ other / temperature).exp()

            positive = s(views[partner][sample])
            others = [s(v[k]) for v in views[:2] for k in range(count) if k != sample]
            same = [positive, *(s(v[sample]) for v in views[2:])]
            g = (sum(others) / len(others) - prior * sum(same) / len(same)) / (1 - prior)
            g = max(g, torch.tensor(math.exp(-1 / temperature), dtype=torch.float64))
            total = total - (positive / (positive + len(others) * g)).log()
    return total / (2 * count)


@pytest.mark.parametrize("prior", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_equals_the_loop(prior, count):
    views = [randn(5, 4, seed=seed) for seed in range(count)]
    views[1] = views[0] + 0.3 * views[1]  # else no anchor needs the bound
    for temperature in (0.2, 0.5, 2.0):
        loss = debiased_nt_xent(*views, temperature=temperature, prior=prior)
        torch.testing.assert_close(loss, slow(views, temperature, prior))


@pytest.mark.parametrize(
    ("samples", "prior", "value"),
    [
        (2, 0.0, 0.239545),
        (2, 0.1, 0.075592),
        (4, 0.1, 0.211532),
        (2, 0.5, 0.035976),
    ],
)
def test_perfect_pairs_among_orthogonal_samples(samples, prior, value):
    z = torch.eye(samples, dtype=torch.float64)
    loss = debiased_nt_xent(z, z, temperature=0.5, prior=prior).item()
    assert loss == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("count", "prior", "value"), [(2, 0.1, 0.58021), (6, 0.1, 1.74063), (2, 0.5, 0.270671)]
)
def test_estimate_of_the_negative_term(count, prior, value):
    negatives, positives = torch.zeros(1, count), torch.full((1, 1), 2.0)
    mean = log_debiased_mean(negatives, positives, count=count, temperature=0.5, prior=prior).exp()
    assert count * mean.item() == pytest.approx(value, abs=1e-5)


def test_where_the_bound_holds_negatives_get_no_gradient():
    for prior, moves in ((0.5, False), (0.1, True)):
        negatives = torch.zeros(1, 2, requires_grad=True)
        positives = torch.full((1, 1), 2.0, requires_grad=True)
        log_debiased_mean(
            negatives, positives, count=2, temperature=0.5, prior=prior
        ).sum().backward()
        assert bool(negatives.grad.any()) is moves
        assert bool(positives.grad.any()) is moves  # g follows the positives, too


def test_without_a_prior_it_is_nt_xent():
    z1, z2 = randn(6, 4), randn(6, 4, seed=1)
    plain = nt_xent(z1, z2, temperature=0.3)
    torch.testing.assert_close(debiased_nt_xent(z1, z2, temperature=0.3, prior=0.0), plain)


def test_falls_with_the_prior_down_to_the_bound():
    z1 = randn(6, 4)
    z2 = z1 + 0.1 * randn(6, 4, seed=1)
    losses = [
        debiased_nt_xent(z1, z2, temperature=0.5, prior=prior).item()
        for prior in (0.0, 0.02, 0.05, 0.1, 0.9, 0.99)
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[1]
    assert losses[-1] == pytest.approx(losses[-2], abs=1e-12)


def test_symmetries():
    z1, z2, z3 = randn(5, 4), randn(5, 4, seed=1), randn(5, 4, seed=2)
    loss = debiased_nt_xent(z1, z2, z3, temperature=0.5, prior=0.1)
    order = torch.tensor([3, 1, 4, 0, 2])
    for views in (
        (z2, z1, z3),
        (z1[order], z2[order], z3[order]),
        (7 * z1, 0.1 * z2, 3 * z3),
    ):
        torch.testing.assert_close(debiased_nt_xent(*views, temperature=0.5, prior=0.1), loss)
    assert debiased_nt_xent(z1, z3, z2, temperature=0.5, prior=0.1) != loss


def test_gradient():
    views = [randn(4, 3, seed=seed).requires_grad_() for seed in range(3)]
    assert torch.autograd.gradcheck(
        lambda *z: debiased_nt_xent(*z, temperature=0.5, prior=0.05), views
    )


def test_the_estimate_approaches_the_mean_over_other_classes():
    """Samples of ten classes on average: the debiased mean is right, the plain one is not."""
    generator = torch.Generator().manual_seed(0)
    prior, temperature, rows = 0.2, 0.5, 20_000

    def draw(count, mean):
        return mean + 0.1 * torch.randn(rows, count, generator=generator, dtype=torch.float64)

    truth = math.exp(0.1**2 / (2 * temperature**2))  # mean of exp(N(0, 0.1) / t)
    spread = []
    for count in (16, 64):
        own_class = torch.rand(rows, count, generator=generator) < prior
        any_class = torch.where(own_class, draw(count, 0.6), draw(count, 0.0)) / temperature
        mean = log_debiased_mean(
            any_class, draw(count, 0.6) / temperature, count=count,
            temperature=temperature, prior=prior,
        ).exp()  # fmt: skip
        assert mean.mean().item() == pytest.approx(truth, rel=0.01)
        assert any_class.exp().mean().item() > 1.3 * truth
        spread.append(mean.std().item())
    assert spread[0] / spread[1] == pytest.approx(2, rel=0.1)


def test_finite_at_a_tiny_temperature_and_float32_under_autocast():
    z1, z2 = randn(8, 6, dtype=torch.float32), randn(8, 6, seed=1, dtype=torch.float32)
    z1.requires_grad_()
    for one, other in ((z1, z2), (z1, z1), (z1, -z1)):
        loss = debiased_nt_xent(one, other, temperature=0.005, prior=0.1)
        assert loss.isfinite()
        loss.backward()
        assert z1.grad.isfinite().all()
    plain = debiased_nt_xent(z1, z2, temperature=0.5, prior=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(debiased_nt_xent(z1, z2, temperature=0.5, prior=0.1), plain)


def test_says_what_is_wrong():
    z = torch.ones(2, 3)
    with pytest.raises(ValueError, match="temperature is 0"):
        debiased_nt_xent(z, z, temperature=0, prior=0.1)
    with pytest.raises(ValueError, match="prior is 1"):
        debiased_nt_xent(z, z, temperature=1, prior=1)
    with pytest.raises(ValueError, match=r"\[2, 3\] and \[1, 3\]"):
        debiased_nt_xent(z, z, z[:1], temperature=1, prior=0.1)
    with pytest.raises(ValueError, match="at least 2"):
        debiased_nt_xent(z[:1], z[:1], temperature=1, prior=0.1)
