import pytest
import torch

from unlabeled.data.factors import Factors
from unlabeled.evaluation import evaluate
from unlabeled.evaluators.identifiability import Identifiability, linear_r2, mean_correlation
from unlabeled.features import Features, embed
from unlabeled.methods.image.cl_ica import factor_encoder


def drawn(count=4096, dim=10):
    torch.manual_seed(0)
    return torch.randn(count, dim)


def r2(x, z):
    half = len(x) // 2
    return linear_r2((x[:half], z[:half]), (x[half:], z[half:]))


def test_a_rotation_is_found_by_the_linear_map_and_not_by_the_order():
    z = drawn()
    rotation = torch.linalg.qr(torch.randn(10, 10)).Q
    assert r2(z @ rotation + 3, z) == pytest.approx(1)
    assert mean_correlation(z @ rotation, z) < 0.9


def test_an_order_with_scales_signs_and_shifts_has_mcc_1():
    z = drawn()
    x = z[:, torch.randperm(10)] * torch.tensor([1, -2] * 5) + 7
    assert mean_correlation(x, z) == pytest.approx(1)
    assert r2(x, z) == pytest.approx(1)


def test_independent_features_score_about_0():
    z = drawn()
    x = torch.randn(4096, 10)
    assert mean_correlation(x, z) < 0.1
    assert abs(r2(x, z)) < 0.02


def test_half_of_the_variance_is_half():
    z = drawn(20_000, 2)
    assert r2(z + torch.randn_like(z), z) == pytest.approx(0.5, abs=0.02)
    assert mean_correlation(z + torch.randn_like(z), z) == pytest.approx(0.5**0.5, abs=0.02)
    assert r2(z[:, :1], z) == pytest.approx(0.5, abs=0.02), "one of two factors"


def test_a_collapsed_feature_explains_nothing():
    z = drawn(500, 3)
    assert mean_correlation(torch.ones(500, 3), z) == 0
    assert abs(r2(torch.ones(500, 3), z)) < 0.02


def test_each_feature_serves_one_factor():
    """The best single match of both factors is the first feature; only one may have it."""
    z = drawn(20_000, 2)
    z[:, 1] = z[:, 0]
    x = torch.stack([z[:, 0], torch.randn(20_000)], 1)
    assert mean_correlation(x, z) == pytest.approx(0.5, abs=0.02)


def test_wrong_widths_and_missing_factors_are_refused():
    z = drawn(50, 3)
    with pytest.raises(ValueError, match="needs an encoder of width 3"):
        mean_correlation(z[:, :2], z)
    with pytest.raises(ValueError, match="no factors"):
        Identifiability().score(Features(z), Features(z))


def test_features_and_their_cache_keep_the_factors(tmp_path):
    data = Factors(dim=3, layers=1, samples=40, test_samples=20)
    encoder = factor_encoder(data.spec(), widths=(2,))
    fresh = embed(encoder, data, cache=tmp_path)
    known = data.split("train").__getitems__(list(range(40)))["factors"]
    assert torch.equal(fresh.factors, known)
    assert torch.equal(embed(encoder, data, cache=tmp_path).factors, known)
    with pytest.raises(ValueError, match="factors of 2 samples"):
        Features(known, factors=known[:2])


def test_evaluation_scores_factors_beside_the_floors_and_leaves_protocols_of_labels_out():
    data = Factors(dim=3, layers=2, samples=400, test_samples=200)
    encoder = factor_encoder(data.spec(), widths=(2,))
    options = {"data": data, "builder": factor_encoder, "random_seeds": 1, "device": "cpu"}
    found = evaluate(encoder, protocols=("knn", Identifiability()), **options)
    rows = {(row.name, row.metric): row.value for row in found.rows if row.metric in ("r2", "mcc")}
    assert len(rows) == 6
    assert rows["raw input", "r2"] > 50, "two layers bend little"
    assert found.counts == {"train": 400, "test": 200}
    plain = evaluate(encoder, protocols=("knn", "linear"), **options)
    assert all(row.protocol.startswith("labelfree") for row in plain.rows)
