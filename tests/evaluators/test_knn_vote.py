import math

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch.nn.functional import normalize

from tests.evaluators.fakes import FakeData, FakeEncoder, blobs
from unlabeled.evaluators.knn import Knn, KnnWithin, vote
from unlabeled.features import Features


def slow_votes(train, test, *, k, temperature):
    classes = int(train.label.max()) + 1
    sums = torch.zeros(len(test), classes, dtype=torch.float64)
    bank = normalize(train.x.double(), dim=1)
    for row, query in enumerate(normalize(test.x.double(), dim=1)):
        scored = sorted(((float(query @ other), n) for n, other in enumerate(bank)), reverse=True)
        for similarity, n in scored[:k]:
            sums[row, train.label[n]] += math.exp(similarity / temperature)
    return sums


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_equals_a_loop_over_neighbors(temperature):
    train, test = blobs(60, apart=0.4), blobs(30, apart=0.4, seed=1)
    sums = slow_votes(train, test, k=9, temperature=temperature)
    found = Knn(k=9, temperature=temperature).score(train, test)[0]
    right = sums.argmax(1) == test.label
    assert found.value == pytest.approx(100 * right.double().mean().item())
    assert torch.equal(found.hits, right.float())


def test_votes_of_the_paper_one_close_neighbor_outvotes_two():
    # two of class 0 at 0.5 (2 exp(7.143) = 2530) against one of class 1 at 0.6 (exp(8.571) = 5279)
    similarity, label = torch.tensor([[0.6, 0.5, 0.5]]), torch.tensor([[1, 0, 0]])
    votes = vote(similarity, label, classes=2, temperature=0.07)
    assert (votes[0, 1] / votes[0, 0]).item() == pytest.approx(math.exp(0.1 / 0.07) / 2, rel=1e-5)
    assert vote(similarity, label, classes=2, temperature=1.0).argmax(1).item() == 0


def test_tiny_temperatures_do_not_overflow():
    votes = vote(torch.tensor([[1.0, 0.9]]), torch.tensor([[1, 0]]), classes=2, temperature=1e-4)
    assert votes.tolist() == [[0.0, 1.0]]


def test_agrees_with_scikit_learn():
    train, test = blobs(200, apart=0.5), blobs(100, apart=0.5, seed=1)
    weights = lambda distance: torch.as_tensor(1 - distance).div(0.07).exp().numpy()  # noqa: E731
    other = KNeighborsClassifier(15, metric="cosine", weights=weights, algorithm="brute")
    other.fit(train.x.double(), train.label)
    accuracy = 100 * other.score(test.x.double(), test.label)
    assert Knn(k=15).score(train, test)[0].value == pytest.approx(accuracy)


def test_several_ks_equal_one_after_the_other():
    train, test = blobs(80, apart=0.3), blobs(50, apart=0.3, seed=1)
    both = Knn(k=(3, 20)).score(train, test)
    assert [each.metric for each in both] == ["top1@3", "top1@20"]
    assert [each.value for each in both] == [Knn(k=k).score(train, test)[0].value for k in (3, 20)]
    assert both[1].details == {"k": 20, "temperature": 0.07}


def test_labels_need_not_start_at_zero():
    train, test = blobs(80), blobs(40, seed=1)
    moved = [Features(each.x, each.label * 7 + 100) for each in (train, test)]
    assert Knn(k=5).score(*moved)[0].value == Knn(k=5).score(train, test)[0].value


def test_within_leaves_each_sample_out():
    features = blobs(60, apart=0.5)
    hits = []
    for place in range(60):
        rest = [other for other in range(60) if other != place]
        train = Features(features.x[rest], features.label[rest])
        one = Features(features.x[[place]], features.label[[place]])
        hits.append(Knn(k=5).score(train, one)[0].value / 100)
    found = KnnWithin(k=5).score(features)
    assert found.value == pytest.approx(100 * sum(hits) / 60)


def test_within_of_equal_samples_never_uses_the_own_label():
    # all rows equal: the first k + 1 are found, the own one may not be among them
    features = Features(torch.ones(8, 3), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]))
    assert KnnWithin(k=3).score(features).hits.tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


def test_errors():
    train, test = blobs(8), blobs(4, seed=1)
    with pytest.raises(ValueError, match="k is 9 but train has 8 samples"):
        Knn(k=9).score(train, test)
    with pytest.raises(ValueError, match="k is 0"):
        Knn(k=0)
    with pytest.raises(ValueError, match="temperature is 0"):
        Knn(temperature=0)
    with pytest.raises(ValueError, match="k is 8 but there are 8"):
        KnnWithin(k=8).score(train)


def test_as_an_evaluator():
    data = FakeData()
    encoder = FakeEncoder(data.spec())
    values = Knn(k=5)(encoder, data)
    assert set(values) == {"knn/top1"}
    data.reads.clear()
    KnnWithin(k=5)(encoder, data)
    assert set(data.reads) == {"train"}
