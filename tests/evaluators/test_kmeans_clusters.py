import pytest
import torch
from torch.nn.functional import one_hot

from tests.evaluators.fakes import FakeData, FakeEncoder
from unlabeled.evaluators.kmeans_clusters import (
    KMeansClusters,
    assigned_map,
    contingency,
    majority_map,
    scores,
    shown_clusters,
)
from unlabeled.features import Features


def blobs(classes=4, each=100, noise=0.05, seed=0):
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(classes).repeat(each)
    x = one_hot(label, classes).float()
    return Features(x + noise * torch.randn(x.shape, generator=generator), label)


def test_maps_by_hand():
    table = torch.tensor([[5, 0], [4, 1]])
    hits = {
        name: float(table.gather(1, of(table)[:, None]).sum()) / 10
        for name, of in (("majority", majority_map), ("assigned", assigned_map))
    }
    assert hits == {"majority": 0.9, "assigned": 0.6}
    more = torch.tensor([[9, 0], [0, 7], [3, 1]])  # three clusters, two classes
    assert assigned_map(more).tolist() == [0, 1, 0]
    fewer = torch.tensor([[2, 9, 8]])  # a class without a cluster counts as errors
    assert assigned_map(fewer).tolist() == [1]


def test_perfect_clusters_have_all_scores_and_their_numbers_mean_nothing():
    label = torch.arange(60) % 3
    turned = torch.tensor([2, 0, 1])[label]
    found = scores(turned, label, turned, label, clusters=3, classes=3)
    assert all(value == pytest.approx(100) for value in found.values())


def test_one_cluster_is_the_majority():
    label = torch.arange(60) % 3
    one = torch.zeros(60, dtype=torch.int64)
    found = scores(one, label, one, label, clusters=1, classes=3)
    assert found["TR-M"] == pytest.approx(100 / 3)
    assert found["ARI"] == found["V"] == 0


def test_a_map_found_on_train_is_not_helped_by_test():
    train, label = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 1])
    swapped = torch.tensor([1, 1, 0, 0])
    found = scores(swapped, label, train, label, clusters=2, classes=2)
    assert found["TR-L"] == found["TR-M"] == 0
    assert found["VA-L"] == found["VA-M"] == 100


def test_the_table_counts_pairs():
    cluster, label = torch.tensor([0, 0, 2]), torch.tensor([1, 1, 0])
    assert contingency(cluster, label, clusters=3, classes=2).tolist() == [[0, 2], [0, 0], [1, 0]]


def test_a_full_pca_is_a_rotation_and_leaves_inertia():
    train = blobs(noise=0.3)
    found = KMeansClusters().clusters(train.x, clusters=4, seed=0)
    turned = (train.x - found.mean) @ found.rotation
    assert torch.allclose(torch.pdist(turned[:50]), torch.pdist(train.x[:50]), atol=1e-4)
    center = torch.from_numpy(found.model.cluster_centers_)
    inertia = (turned - center[found.train]).square().sum()
    means = torch.stack([train.x[found.train == k].mean(0) for k in range(4)])
    lloyd = (train.x - means[found.train]).square().sum()
    assert float(inertia) == pytest.approx(float(lloyd), rel=0.02)
    narrow = KMeansClusters(components=2).clusters(train.x, clusters=4, seed=0)
    assert narrow.rotation.shape == (4, 2)


def test_separate_blobs_are_found_without_labels():
    judge = KMeansClusters(seeds=2, over=(1.0, 2.0), passes=3)
    found = {each.metric: each for each in judge.score(blobs(), blobs(seed=1))}
    assert found["TR-L"].value == found["VA-M"].value == found["AMI"].value == pytest.approx(100)
    assert len(found["TR-L"].trials) == 2
    assert found["TR-M x2"].value == pytest.approx(100)
    assert found["TR-L x2"].details["clusters"] == 8
    one = judge.clusters(blobs().x, clusters=4, seed=3).train
    other = judge.clusters(blobs().x, clusters=4, seed=3).train
    assert torch.equal(one, other)


def test_foreign_samples_of_other_classes_are_left_out():
    foreign = blobs(classes=5, each=20, seed=2)
    own = Features(foreign.x[:, :4] + 0, foreign.label)
    found = {each.metric: each for each in KMeansClusters(seeds=1).score(blobs(), blobs(), own)}
    assert found["TR-L foreign"].test == 80
    assert found["TR-L foreign"].value == pytest.approx(100)
    with pytest.raises(ValueError, match="none of the classes"):
        KMeansClusters(seeds=1).score(blobs(), blobs(), Features(own.x[4:5], own.label[4:5]))


def test_as_an_evaluator_it_leaves_the_encoder_and_shows_clusters():
    data = FakeData(train=90, noise=0.1)
    encoder = FakeEncoder(data.spec()).eval()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    judge = KMeansClusters(seeds=1, passes=2)
    found = judge.judge(encoder, data)
    assert found[0].metric == "TR-L"
    assert judge.plain(data)[0].value > 90  # three patterns with little noise
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    (figure,) = judge.figures(encoder, data)
    assert figure.frames.shape[-1] == 80


def test_shown_clusters_are_the_pure_and_the_tight():
    x = torch.cat([torch.randn(20, 2) * s + 50 * n for n, s in enumerate((0.1, 1.0, 5.0))])
    cluster = torch.arange(3).repeat_interleave(20)
    label = torch.cat([torch.arange(20) % 2, torch.zeros(20), torch.arange(20) % 4 // 3]).long()
    pure, tight = shown_clusters(x, cluster, label)
    assert pure[0].tolist() == list(range(20, 40))
    assert tight[0].tolist() == list(range(20))


def test_what_cannot_be_asked_is_said():
    with pytest.raises(ValueError, match="give positive values"):
        KMeansClusters(over=())
