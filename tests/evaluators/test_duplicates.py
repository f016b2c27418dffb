import pytest
import torch

from tests.evaluators.fakes import FakeData, FakeEncoder
from unlabeled.evaluators.duplicates import Duplicates, leaked, near_duplicates
from unlabeled.features import Features


def planted(count=200, dim=16, seed=0):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def test_planted_copies_are_found_and_nothing_else():
    x = planted()
    x[50] = x[3]
    x[120] = x[3] + 1e-3
    x[7] = 1.001 * x[9]
    pairs = near_duplicates(x, threshold=0.999)
    assert {tuple(sorted(pair)) for pair in pairs.places.tolist()} == {
        (3, 50), (3, 120), (50, 120), (7, 9),
    }  # fmt: skip
    assert (pairs.places[:, 0] < pairs.places[:, 1]).all()
    assert (pairs.cosine.diff() <= 0).all()
    assert pairs.group[3] == pairs.group[50] == pairs.group[120] != pairs.group[7]
    assert (pairs.group >= 0).sum() == 5


def test_equal_a_slow_loop():
    x = planted(60, dim=3)
    pairs = near_duplicates(x, threshold=0.9, neighbors=60)
    centered = torch.nn.functional.normalize(x - x.mean(0), dim=1)
    alike = centered @ centered.T
    expected = {(a, b) for a in range(60) for b in range(a + 1, 60) if alike[a, b] >= 0.9}
    assert {tuple(pair) for pair in pairs.places.tolist()} == expected
    for (a, b), cosine in zip(pairs.places.tolist(), pairs.cosine.tolist(), strict=True):
        assert cosine == pytest.approx(float(alike[a, b]), abs=1e-5)


def test_a_group_larger_than_the_links_keeps_all_its_members():
    x = planted(100)
    x[:40] = x[0] + 1e-4 * planted(40, seed=1)
    pairs = near_duplicates(x, threshold=0.999, neighbors=5)
    assert (pairs.group[:40] == pairs.group[0]).all()
    assert (pairs.group[40:] == -1).all()


def test_test_samples_that_train_has_are_named():
    train, test = planted(100), planted(30, seed=1)
    test[4] = train[77]
    place, cosine = leaked(test, train, threshold=0.999)
    assert place[4] == 77
    assert cosine[4] == pytest.approx(1)
    assert (place >= 0).sum() == 1
    names = [f"{n}.png" for n in range(100)]
    found = Duplicates(threshold=0.999).score(
        Features(train, path=names), Features(test, path=[f"t{n}.png" for n in range(30)])
    )
    leak = next(each for each in found if each.metric == "test in train")
    assert leak.value == pytest.approx(100 / 30)
    assert leak.details["pairs"] == [("t4.png", "77.png", 1.0)]
    assert not leak.higher_is_better


@pytest.mark.parametrize("x", [torch.zeros(0, 3), torch.zeros(1, 3), torch.ones(4, 3)])
def test_few_samples_and_constant_features_have_no_pairs(x):
    pairs = near_duplicates(x)
    assert len(pairs.places) == 0
    assert (pairs.group == -1).all()


def test_it_needs_no_labels_and_no_test_split():
    data = FakeData(labeled=False)
    encoder = FakeEncoder(data.spec()).eval()
    assert [each.metric for each in Duplicates().judge(encoder, data)] == ["train"]
    whole = Duplicates().judge(encoder, FakeData())
    assert [each.metric for each in whole] == ["train", "test in train"]
    with pytest.raises(ValueError, match="give a cosine"):
        Duplicates(threshold=1.5)
