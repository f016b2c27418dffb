import math
from itertools import pairwise

import pytest

from unlabeled.schedule import (
    Clock,
    constant,
    cosine,
    exponential,
    linear,
    steps,
    warm_cosine,
    warm_steps,
)


def at(step: int, total: int = 100, epoch: int = 10) -> Clock:
    return Clock(step, total, epoch)


def test_clock_counts_progress_and_epochs():
    assert at(25).progress == 0.25
    assert at(25).epoch == 2.5


def test_constant():
    assert constant(0.3)(at(0)) == constant(0.3)(at(99)) == 0.3


def test_exponential_goes_through_the_geometric_mean():
    fall = exponential(5e-4, 5e-6)
    assert fall(at(0)) == 5e-4
    assert fall(at(50)) == pytest.approx(5e-5)
    assert fall(at(100)) == pytest.approx(5e-6)
    with pytest.raises(ValueError, match="above 0"):
        exponential(1.0, 0.0)


def test_linear_over_the_run_and_over_epochs():
    assert linear(1.0, 3.0)(at(50)) == 2.0
    assert linear(0.04, 0.07, epochs=3)(at(15)) == pytest.approx(0.055)
    assert linear(0.04, 0.07, epochs=3)(at(80)) == 0.07


def test_cosine_has_the_closed_form_of_byols_momentum():
    momentum = cosine(0.996, 1.0)
    values = [momentum(at(step)) for step in (0, 25, 50, 100)]
    assert values == pytest.approx([0.996, 0.996586, 0.998, 1.0], abs=1e-6)


def test_cosine_warms_up_in_a_straight_line_and_ends_at_its_end():
    rate = cosine(1.0, 0.1, warmup=1)
    assert rate(at(0)) == 0.0
    assert rate(at(5)) == pytest.approx(0.5)
    assert rate(at(10)) == pytest.approx(1.0)
    assert rate(at(55)) == pytest.approx((1.0 + 0.1) / 2)
    assert rate(at(100)) == pytest.approx(0.1)
    assert cosine(1.0, warmup=1, warmup_from=0.4)(at(0)) == 0.4


def test_a_warmup_longer_than_a_tenth_of_the_run_is_cut():
    assert cosine(1.0, warmup=10)(at(10)) == pytest.approx(1.0)


def test_steps_drop_at_shares_of_the_run():
    rate = steps(1.0, at=(0.6, 0.8))
    assert [rate(at(step)) for step in (0, 59, 60, 80)] == pytest.approx([1, 1, 0.1, 0.01])


def test_cosine_never_rises_again():
    rate = cosine(1.0, warmup=1)
    values = [rate(at(step)) for step in range(10, 101)]
    assert all(a >= b for a, b in pairwise(values))
    assert math.isclose(values[-1], 0.0, abs_tol=1e-12)


def test_warm_cosine_keeps_a_long_warmup():
    schedule = warm_cosine(0.4, warmup=0.2)
    found = [schedule(at(step)) for step in (0, 10, 20, 60, 100)]
    assert found == pytest.approx([0, 0.2, 0.4, 0.2, 0])
    assert warm_cosine(0.4, warmup=0.0)(at(0)) == 0.4
    with pytest.raises(ValueError, match="share of the run"):
        warm_cosine(0.4, warmup=1.0)


def test_warm_steps_rise_and_then_drop():
    rate = warm_steps(1.0, at=(0.6, 0.8), warmup=0.5)
    found = [rate(at(step)) for step in (0, 4, 5, 59, 60, 80)]
    assert found == pytest.approx([0, 0.8, 1, 1, 0.1, 0.01])
    assert warm_steps(1.0, at=(0.6,), warmup=50)(at(10)) == 1.0  # cut to a tenth of the run
