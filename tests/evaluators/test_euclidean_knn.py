import pytest
import torch

from unlabeled.evaluators.euclidean_knn import EuclideanKnn
from unlabeled.evaluators.knn import Knn
from unlabeled.features import Features


def test_clusters_on_one_line_through_the_origin_are_told_apart():
    """Where cosine similarity sees one direction."""
    torch.manual_seed(0)
    far = torch.tensor([1.0, 5.0, 9.0])
    label = torch.arange(3).repeat(20)
    x = far[label, None] + 0.1 * torch.randn(60, 2)
    train, test = Features(x[:45], label[:45]), Features(x[45:], label[45:])
    assert EuclideanKnn(k=5).score(train, test)[0].value == 100
    assert Knn(k=5).score(train, test)[0].value < 90


def test_the_majority_decides():
    train = Features(torch.tensor([[0.0], [1.0], [1.1], [9.0]]), torch.tensor([0, 1, 1, 0]))
    test = Features(torch.tensor([[0.1], [8.0]]), torch.tensor([1, 0]))
    assert EuclideanKnn(k=3).score(train, test)[0].trials == (50.0,)
    assert EuclideanKnn(k=1).score(train, test)[0].value == 50
    with pytest.raises(ValueError, match="k is 5 but train has 4"):
        EuclideanKnn(k=5).score(train, test)
