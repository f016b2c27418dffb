import pytest
import torch
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from unlabeled.evaluators.clustering import Clustering, agreement, matched_accuracy
from unlabeled.features import Features


def blobs(count, *, apart, seed):
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % 4
    x = apart * torch.eye(6)[label] + torch.randn(count, 6, generator=generator)
    return Features(x, label)


def scored(*, apart):
    train, test = (blobs(400, apart=apart, seed=seed) for seed in (0, 1))
    return {m.metric: m.value for m in Clustering().score(train, test)}


def test_matched_accuracy_names_clusters_at_best():
    label = torch.tensor([0, 0, 0, 1, 1, 2])
    assert matched_accuracy(torch.tensor([2, 2, 2, 0, 0, 1]), label) == 1.0
    assert matched_accuracy(torch.zeros(6, dtype=torch.int64), label) == 0.5
    assert matched_accuracy(torch.tensor([0, 1, 2, 3, 3, 4]), label) == pytest.approx(4 / 6)


def test_separate_classes_are_found_and_noise_is_not():
    scores = {
        m.metric: m.value
        for m in Clustering().score(*(blobs(400, apart=30, seed=s) for s in (0, 1)))
    }
    assert scores == pytest.approx({"nmi": 100.0, "ari": 100.0, "matched": 100.0})
    noise = {
        m.metric: m.value
        for m in Clustering().score(*(blobs(400, apart=0, seed=s) for s in (0, 1)))
    }
    assert noise["nmi"] < 10
    assert abs(noise["ari"]) < 5


def test_values_are_scikit_learns_on_the_test_split():
    train, test = blobs(300, apart=2, seed=0), blobs(200, apart=2, seed=1)
    judge = Clustering(clusters=6)
    from sklearn.cluster import KMeans

    unit = torch.nn.functional.normalize
    fitted = KMeans(6, n_init=3, random_state=0).fit(unit(train.x, dim=1).numpy())
    cluster = fitted.predict(unit(test.x, dim=1).numpy())
    found = {m.metric: m.value for m in judge.score(train, test)}
    assert found["nmi"] == pytest.approx(100 * normalized_mutual_info_score(test.label, cluster))
    assert found["ari"] == pytest.approx(100 * adjusted_rand_score(test.label, cluster))
    assert judge.protocol == "clustering/kmeans-k6-v1"


def test_labels_of_train_are_not_read():
    train, test = blobs(300, apart=2, seed=0), blobs(200, apart=2, seed=1)
    other = Features(train.x, train.label.flip(0))
    assert Clustering().score(train, test) == Clustering().score(other, test)


def test_given_assignments_have_closed_forms():
    label = torch.tensor([0, 0, 1, 1])
    renamed = agreement(torch.tensor([7, 7, 3, 3]), label)
    assert renamed == pytest.approx({"nmi": 100.0, "ari": 100.0, "matched": 100.0})
    # one cluster says nothing, one a sample says all: I = ln 2, mean entropy (ln 4 + ln 2) / 2
    none = agreement(torch.zeros(4, dtype=torch.int64), label)
    assert none == pytest.approx({"nmi": 0.0, "ari": 0.0, "matched": 50.0})
    own = agreement(torch.arange(4), label)
    assert own == pytest.approx({"nmi": 100 * 2 / 3, "ari": 0.0, "matched": 50.0})
    # independent: all pairs are 1 of each, so that no pair agrees, less than by chance (2 x 2 / 6)
    across = agreement(torch.tensor([0, 1, 0, 1]), label)
    assert across == pytest.approx({"nmi": 0.0, "ari": -50.0, "matched": 50.0}, abs=1e-9)


def test_given_assignments_are_one_for_each_sample():
    with pytest.raises(ValueError, match=r"cluster is \(3,\) and label \(4,\)"):
        agreement(torch.zeros(3, dtype=torch.int64), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="cluster is \\(0,\\)"):
        agreement(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
