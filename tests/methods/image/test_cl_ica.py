import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from unlabeled.data.factors import Factors
from unlabeled.evaluators.identifiability import Identifiability
from unlabeled.methods.image import cl_ica
from unlabeled.methods.image.cl_ica import (
    ClIca,
    InBox,
    factor_encoder,
    inner_product,
    minus_distance,
)
from unlabeled.pretraining import pretrain


def loss(method, one, other):
    batch = {"views": [one, other], "index": torch.arange(len(one))}
    (value,) = method.loss(batch).values()
    return value


@pytest.mark.parametrize("similarity", [inner_product, partial(minus_distance, p=1.0)])
def test_equal_outputs_give_the_log_of_one_more_than_the_batch(given, similarity):
    ones = torch.ones(7, 3)
    value = loss(ClIca(given(3), similarity=similarity), ones, ones)
    assert value.item() == pytest.approx(math.log(8), rel=1e-5)


@pytest.mark.parametrize("p", [None, 1.0, 2.0, 3.0])
def test_loss_equals_the_official_loop(given, p):
    """Negatives are the anchors, its own included; the p-th power of the norm."""
    torch.manual_seed(0)
    one, other = torch.randn(2, 6, 3, dtype=torch.float64)
    similarity = inner_product if p is None else partial(minus_distance, p=p)
    rolled = one.roll(1, 0)
    total = 0.0
    for i in range(6):
        if p is None:
            positive = one[i] @ other[i] / 0.3
            negatives = [one[i] @ rolled[j] / 0.3 for j in range(6)]
        else:
            positive = -sum(abs(one[i] - other[i]) ** p) / 0.3
            negatives = [-sum(abs(one[i] - rolled[j]) ** p) / 0.3 for j in range(6)]
        total += torch.stack([positive, *negatives]).logsumexp(0) - positive
    value = loss(ClIca(given(3), similarity=similarity, temperature=0.3), one, other)
    torch.testing.assert_close(value, total / 6)


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_the_gradient_is_finite_where_points_meet(given, p):
    points = torch.ones(4, 3, requires_grad=True)
    loss(ClIca(given(3), similarity=partial(minus_distance, p=p)), points, points).backward()
    assert torch.isfinite(points.grad).all()


def test_outputs_lie_in_the_space_of_the_factors():
    spec = Factors(dim=4).spec()
    x = torch.randn(9, 4) * 10
    sphere = factor_encoder(spec, widths=(2,))
    torch.testing.assert_close(sphere(x).norm(dim=1), torch.ones(9))
    box = factor_encoder(spec, widths=(2,), output=InBox)
    with torch.no_grad():
        box.net[-1].bound.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        box.net[-2].weight.mul_(1000)
    y = box(x)
    assert y.min() >= 0
    assert (y.amax(0) <= box.net[-1].bound).all()
    assert y.amax() > 2


def test_the_network_is_the_papers():
    encoder = factor_encoder(Factors(dim=10).spec())
    linear = [layer for layer in encoder.net if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in linear] == [100, 500, 500, 500, 500, 100, 10]


def scores(recipe, folder):
    run = pretrain(recipe, out=folder, logger=False, accelerator="cpu", checkpoint_seconds=1e9)
    return Identifiability()(run.model().encoder, recipe.data)


@pytest.mark.learns
def test_both_explain_the_factors_and_laplace_positives_find_them_one_by_one(tmp_path):
    """Theorem 5 speaks of p = 1. With p = 2 a rotation is open, which a box of outputs resists.

    Seen with one seed: MCC 99.5 and 94.8; the wide contrast of spaces without walls is not here.
    """
    laplace = scores(replace(cl_ica.small_laplace(), epochs=15), tmp_path / "laplace")
    normal = scores(replace(cl_ica.small_normal(), epochs=15), tmp_path / "normal")
    assert laplace["identifiability/r2"] > 90
    assert normal["identifiability/r2"] > 90
    assert laplace["identifiability/mcc"] > 95
    assert laplace["identifiability/mcc"] > normal["identifiability/mcc"]
