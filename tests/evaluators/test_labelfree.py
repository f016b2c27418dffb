import math

import pytest
import torch

from tests.evaluators.fakes import FakeData, FakeEncoder
from unlabeled.evaluators.labelfree import (
    LabelFree,
    alpha_req,
    effective_rank,
    relative_std,
    stable_rank,
)
from unlabeled.features import Features


def test_closed_forms_of_the_ranks():
    assert effective_rank(torch.eye(7)) == pytest.approx(7)
    assert stable_rank(torch.eye(7)) == pytest.approx(7)
    direction = torch.randn(1, 5) * torch.rand(30, 1)
    assert effective_rank(direction) == pytest.approx(1, abs=1e-4)
    assert stable_rank(direction) == pytest.approx(1)
    # singular values 3, 1: p = 3/4, 1/4
    expected = math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(expected)
    assert stable_rank(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(10 / 9)
    assert effective_rank(torch.zeros(4, 3)) == stable_rank(torch.zeros(4, 3)) == 0


@pytest.mark.parametrize("shape", [(50, 8), (8, 50)])
def test_equal_the_definition_with_an_svd(shape):
    x = torch.randn(shape) * torch.logspace(-1, 1, shape[1])
    values = torch.linalg.svdvals(x.double())
    share = values / values.sum()
    assert effective_rank(x) == pytest.approx((-(share * share.log()).sum()).exp().item())
    assert stable_rank(x) == pytest.approx((values.square().sum() / values.max() ** 2).item())
    assert effective_rank(5 * x) == pytest.approx(effective_rank(x))


def test_relative_std_is_one_on_the_sphere_and_zero_when_collapsed():
    assert relative_std(torch.randn(20_000, 16)) == pytest.approx(1, abs=0.01)
    assert relative_std(torch.ones(50, 16)) == pytest.approx(0, abs=1e-6)
    x = torch.randn(40, 3)
    unit = x / x.norm(dim=1, keepdim=True)
    expected = sum(unit[:, place].std(correction=0) for place in range(3)) / 3 * 3**0.5
    assert relative_std(x) == pytest.approx(expected.item())


def test_as_an_evaluator_it_looks_at_the_first_rows_of_train():
    data = FakeData(labeled=False)
    values = LabelFree()(FakeEncoder(data.spec()), data)
    assert values["dim"] == 6
    assert values["samples"] == 90
    assert set(data.reads) == {"train"}
    x = torch.randn(30, 4)
    assert LabelFree(rows=10).score(Features(x))["effective_rank"] == effective_rank(x[:10])


@pytest.mark.parametrize(("width", "exponent"), [(100, 1.0), (100, 0.4), (24, 1.7)])
def test_alpha_is_the_exponent_of_a_power_law(width, exponent):
    generator = torch.Generator().manual_seed(0)
    scale = torch.arange(1, width + 1, dtype=torch.float64) ** (-exponent / 2)
    basis = torch.linalg.qr(torch.randn(400, width, generator=generator, dtype=torch.float64))[0]
    basis = basis - basis.mean(0)
    basis = torch.linalg.qr(basis)[0]  # orthonormal columns that sum to zero
    assert alpha_req(basis * scale) == pytest.approx(exponent, abs=1e-6)
    assert alpha_req(1e3 * basis * scale + 5) == pytest.approx(exponent, abs=1e-4)


def test_alpha_of_features_without_a_spectrum_is_not_a_number():
    assert math.isnan(alpha_req(torch.ones(20, 5)))
    assert math.isnan(alpha_req(torch.ones(20, 1) * torch.randn(20, 1)))
