import pytest
import torch
from sklearn.covariance import LedoitWolf

from unlabeled.ops.mahalanobis import Standardizer, cluster_distance, fit_gaussian, rank_scores

ONE = torch.zeros(100, dtype=torch.int64)


@pytest.fixture
def z():
    return torch.randn(100, 5, generator=torch.Generator().manual_seed(0)) @ torch.randn(5, 5)


def test_the_mean_distance_of_the_training_samples_is_the_rank(z):
    assert cluster_distance(z, z, ONE).mean().item() == pytest.approx(5.0, abs=1e-6)
    flat = torch.cat([z[:, :3], z[:, :1] + z[:, 1:2]], 1)  # the fourth says nothing new
    assert cluster_distance(flat, flat, ONE).mean().item() == pytest.approx(3.0, abs=1e-4)


def test_whitened_data_have_the_euclidean_distance():
    z = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])  # mean 0, covariance I
    point = torch.tensor([[3.0, 4.0]])
    assert cluster_distance(point, z, ONE[:4]).item() == pytest.approx(25.0)


def test_a_linear_map_changes_nothing(z):
    change = torch.randn(5, 5)
    asked = torch.randn(7, 5)
    one = cluster_distance(asked, z, ONE)
    torch.testing.assert_close(
        cluster_distance(asked @ change, z @ change, ONE), one, rtol=1e-4, atol=1e-5
    )


def test_the_nearest_of_two_clusters_counts(z):
    both = torch.cat([z, z + 100])
    cluster = torch.cat([ONE, ONE + 1])
    alone = fit_gaussian(z).distance(z)
    torch.testing.assert_close(cluster_distance(z, both, cluster), alone)


def test_known_outliers_that_are_the_training_data_make_every_score_zero(z):
    inside, outside = fit_gaussian(z, shrink=True), fit_gaussian(z.clone(), shrink=True)
    asked = torch.randn(9, 5)
    assert (inside.distance(asked) - outside.distance(asked)).abs().max() == 0


def test_ledoit_wolf_has_an_inverse_with_fewer_samples_than_dimensions():
    few = torch.randn(4, 30)
    distance = fit_gaussian(few, shrink=True).distance(torch.randn(50, 30))
    assert torch.isfinite(distance).all()
    assert distance.min() > 0


def test_the_inverse_of_ledoit_wolf_is_the_pseudo_inverse_and_samples_that_are_equal_have_one(z):
    found = fit_gaussian(z, shrink=True).precision
    covariance = torch.from_numpy(LedoitWolf().fit(z.double().numpy()).covariance_)
    torch.testing.assert_close(found, torch.linalg.pinv(covariance, hermitian=True))
    equal = fit_gaussian(torch.ones(6, 3), shrink=True).distance(torch.ones(2, 3))
    assert equal.tolist() == [0, 0]


def test_standardized_after_unit_length(z):
    standard = Standardizer.of(z)
    done = standard(z)
    torch.testing.assert_close(done.mean(0), torch.zeros(5).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(done.std(0, correction=0), torch.ones(5).double())
    torch.testing.assert_close(standard(7 * z), done)
    constant = torch.cat([z / z.norm(dim=1, keepdim=True), torch.zeros(100, 1)], 1)
    assert Standardizer.of(constant)(torch.ones(1, 6))[0, 5] == 0


def test_separated_scores_and_equal_ones():
    low, high = torch.linspace(0, 1, 1000), torch.linspace(2, 3, 1000)
    assert rank_scores(low, high) == {"auroc": 100.0, "aupr": 100.0, "fpr95": 0.0}
    same = rank_scores(low, low)
    assert same["auroc"] == pytest.approx(50.0)
    assert same["fpr95"] == pytest.approx(95.0, abs=0.2)
