import pytest
import torch
from sklearn.metrics import average_precision_score

from unlabeled.evaluators.retrieval import (
    Retrieval,
    average_precision,
    precision_at_r,
    ranked_hits,
)
from unlabeled.features import Features


def some(count=40, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % classes
    x = torch.nn.functional.one_hot(label, classes).float()
    return x + 0.8 * torch.randn(count, classes, generator=generator), label


def test_figures_by_hand():
    hits = torch.tensor([[True, False, True, False], [False, False, False, True]])
    expected = torch.tensor([(1 + 2 / 3) / 2, 1 / 4])
    torch.testing.assert_close(average_precision(hits), expected)
    torch.testing.assert_close(precision_at_r(hits, average=False), torch.tensor([0.5, 0.0]))
    torch.testing.assert_close(precision_at_r(hits, average=True), torch.tensor([0.5, 0.0]))


def test_it_is_the_loop_and_scikit_learn_s_precision():
    x, label = some()
    unit = torch.nn.functional.normalize(x, dim=1)
    hits = ranked_hits(unit, label, torch.arange(40))
    for query in range(40):
        others = [place for place in range(40) if place != query]
        alike = unit[others] @ unit[query]
        same = label[others] == label[query]
        order = alike.argsort(descending=True)
        assert torch.equal(hits[query], same[order])
        expected = average_precision_score(same.numpy(), alike.numpy())
        assert average_precision(hits[query : query + 1]).item() == pytest.approx(expected)
    found = {each.metric: each.value for each in Retrieval().score(*[Features(x, label)] * 2)}
    assert found["recall@1"] == pytest.approx(100 * hits[:, 0].float().mean().item())
    assert found["recall@1"] <= found["recall@5"] <= found["recall@10"]
    assert found["map"] == pytest.approx(100 * average_precision(hits).mean().item(), rel=1e-5)


def test_perfect_features_find_all_and_single_ones_are_left_out():
    x, label = torch.eye(3)[torch.tensor([0, 0, 1, 1, 2])], torch.tensor([0, 0, 1, 1, 2])
    train = Features(x, label)
    found = Retrieval(ranks=(1,)).score(train, Features(x, label))
    assert [each.value for each in found] == [100.0, 100.0, 100.0]
    assert [each.test for each in found] == [4, 4, 4]
    with pytest.raises(ValueError, match="no two test samples"):
        Retrieval().score(train, Features(x[[0, 2]], label[[0, 2]]))
    with pytest.raises(ValueError, match="ranks are"):
        Retrieval(ranks=(0,))
