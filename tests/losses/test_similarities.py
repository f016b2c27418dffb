import math

import pytest
import torch
import torch.nn.functional as F

from unlabeled.losses.contrastive import info_nce
from unlabeled.losses.similarities import equivalent_info_nce, info_nce_of


def rand(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(*shape, generator=generator, dtype=dtype) - 1


def slow(positives, negatives, temperature, factor):
    total = 0.0
    for positive, row in zip(positives, negatives, strict=True):
        top = (positive / temperature).exp()
        below = top + factor * sum((value / temperature).exp() for value in row)
        total = total - (top / below).log()
    return total / len(positives)


def test_both_equal_the_loop():
    positives, negatives = rand(4), rand(4, 7, seed=1)
    for temperature in (0.1, 0.5):
        torch.testing.assert_close(
            info_nce_of(positives, negatives, temperature=temperature),
            slow(positives, negatives, temperature, 1.0),
        )
        for alpha in (1.0, 7.0, 64.0):
            torch.testing.assert_close(
                equivalent_info_nce(positives, negatives, temperature=temperature, alpha=alpha),
                slow(positives, negatives, temperature, alpha / 7),
            )


def test_is_the_info_nce_of_a_shared_bank():
    q, k, bank = (F.normalize(rand(n, 5, seed=n), dim=1) for n in (4, 4, 9))
    loss = info_nce_of((q * k).sum(1), q @ bank.T, temperature=0.2)
    torch.testing.assert_close(loss, info_nce(q, k, bank, temperature=0.2))


def test_alpha_of_all_negatives_is_cross_entropy():
    positives, negatives = rand(6), rand(6, 10, seed=1)
    logits = torch.cat([positives[:, None], negatives], 1) / 0.2
    plain = F.cross_entropy(logits, torch.zeros(6, dtype=torch.int64))
    loss = equivalent_info_nce(positives, negatives, temperature=0.2, alpha=10)
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(info_nce_of(positives, negatives, temperature=0.2), plain)


@pytest.mark.parametrize("count", [1, 16, 255])
def test_values_that_do_not_depend_on_the_number_of_negatives(count):
    zero, none = torch.zeros(3), torch.zeros(3, count)
    for alpha, value in ((16, 2.8332), (256, 5.5491), (65536, 11.0904)):
        loss = equivalent_info_nce(zero, none, temperature=0.2, alpha=alpha).item()
        assert loss == pytest.approx(math.log(1 + alpha), rel=1e-6)
        assert loss == pytest.approx(value, abs=1e-4)
    loss = equivalent_info_nce(zero + 1, none, temperature=0.2, alpha=256).item()
    assert loss == pytest.approx(1.00244, abs=1e-5)


def test_alpha_is_a_margin_on_the_positive():
    positives, negatives = rand(4), rand(4, 6, seed=1)
    margin = 0.2 * math.log(64 / 6)
    torch.testing.assert_close(
        equivalent_info_nce(positives, negatives, temperature=0.2, alpha=64),
        info_nce_of(positives - margin, negatives, temperature=0.2),
    )


def test_loss_and_gradient_hardly_depend_on_the_number_of_negatives():
    generator = torch.Generator().manual_seed(0)

    def unit(*shape):
        return F.normalize(torch.randn(*shape, generator=generator), dim=-1)

    q, k = unit(2000, 64), unit(2000, 64)
    q = F.normalize(q + 2 * k, dim=-1)
    losses, plain, pulls = [], [], []
    for count in (16, 1024):
        positives = (q * k).sum(1).requires_grad_()
        negatives = (q[:, None] * unit(1, count, 64)).sum(2)
        loss = equivalent_info_nce(positives, negatives, temperature=0.2, alpha=1024)
        losses.append(loss.item())
        pulls.append(torch.autograd.grad(loss, positives)[0].sum().item())
        plain.append(info_nce_of(positives, negatives, temperature=0.2).item())
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert pulls[0] == pytest.approx(pulls[1], rel=0.02)
    assert plain[1] - plain[0] > 1.5


def test_gradients():
    positives, negatives = rand(3).requires_grad_(), rand(3, 5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p, n: equivalent_info_nce(p, n, temperature=0.3, alpha=40), (positives, negatives)
    )
    assert torch.autograd.gradcheck(
        lambda p, n: info_nce_of(p, n, temperature=0.3), (positives, negatives)
    )


def test_a_negative_at_minus_infinity_does_not_count():
    positives, negatives = rand(3), rand(3, 5, seed=1)
    hidden = F.pad(negatives, (0, 2), value=-math.inf)
    assert torch.equal(
        info_nce_of(positives, hidden, temperature=0.2),
        info_nce_of(positives, negatives, temperature=0.2),
    )


def test_finite_at_a_tiny_temperature_and_float32_under_autocast():
    positives, negatives = rand(3, dtype=torch.float32), rand(3, 5, seed=1, dtype=torch.float32)
    one = equivalent_info_nce(positives, negatives, temperature=0.001, alpha=65536)
    assert one.isfinite()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        other = equivalent_info_nce(positives, negatives, temperature=0.001, alpha=65536)
        half = info_nce_of(positives.bfloat16(), negatives.bfloat16(), temperature=0.2)
    assert torch.equal(one, other)
    assert half.dtype == torch.float32


def test_says_what_is_wrong():
    positives, negatives = torch.zeros(2), torch.zeros(2, 3)
    with pytest.raises(ValueError, match="temperature is -1"):
        info_nce_of(positives, negatives, temperature=-1)
    with pytest.raises(ValueError, match=r"\[2\] and \[1, 3\]"):
        info_nce_of(positives, negatives[:1], temperature=1)
    with pytest.raises(ValueError, match="alpha is 0"):
        equivalent_info_nce(positives, negatives, temperature=1, alpha=0)
    with pytest.raises(ValueError, match="with 0 negatives"):
        equivalent_info_nce(positives, negatives[:, :0], temperature=1, alpha=8)
