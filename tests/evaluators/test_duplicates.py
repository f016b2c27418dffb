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


def slow_groups(x, threshold):
    """Samples as sets, joined pair by pair."""
    unit = torch.nn.functional.normalize(x - x.mean(0), dim=1)
    sets = [{n} for n in range(len(x))]
    for a in range(len(x)):
        for b in range(a):
            if unit[a] @ unit[b] >= threshold and sets[a] is not sets[b]:
                sets[a] |= sets[b]
                for n in sets[b]:
                    sets[n] = sets[a]
    return {frozenset(each) for each in sets if len(each) > 1}


@pytest.mark.parametrize("neighbors", [1, 4, 20])
def test_groups_are_those_of_all_pairs_however_few_are_listed(neighbors):
    x = planted(150)
    # two tight clumps within the threshold of each other, which list nobody but their own,
    # one clump that stands alone, a chain, and a pair
    x[:30] = x[0] + 1e-3 * planted(30, seed=1)
    x[30:60] = x[0] + 0.1 * planted(1, seed=2) + 1e-3 * planted(30, seed=3)
    x[60:80] = x[60] + 1e-3 * planted(20, seed=4)
    for place in range(80, 86):
        x[place + 1] = x[place] + 0.12 * planted(1, seed=place)
    x[100] = x[101]
    pairs = near_duplicates(x, threshold=0.98, neighbors=neighbors)
    found = {
        frozenset((pairs.group == n).nonzero().flatten().tolist()) for n in range(pairs.groups)
    }
    assert found == slow_groups(x, 0.98)
    assert frozenset(range(60)) in found
    assert frozenset(range(60, 80)) in found
    assert frozenset((100, 101)) in found


def test_every_copy_is_found_at_a_threshold_of_one():
    x = planted(500, dim=64)
    x[250:] = x[:250]
    pairs = near_duplicates(x, threshold=1)
    assert pairs.groups == 250  # also where no sample is without a pair
    assert (pairs.group[250:] == pairs.group[:250]).all()
    assert (leaked(x[:250], x[250:], threshold=1)[0] == torch.arange(250)).all()
    details = Duplicates(threshold=1).score(Features(x), None)[0].details
    assert details["groups"] == 250


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


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(0, 3),
        torch.zeros(1, 3),
        torch.ones(4, 3),
        torch.full((37, 5), 0.1),  # whose mean is off by rounding
        torch.tensor([123.4, -0.3, 7.7]).expand(29, 3),
    ],
)
def test_few_samples_and_constant_features_have_no_pairs(x):
    pairs = near_duplicates(x)
    assert len(pairs.places) == 0
    assert (pairs.group == -1).all()
    assert pairs.groups == 0
    if len(x):
        assert (leaked(x, x)[0] == -1).all()
    measures = Duplicates().score(Features(x), Features(x)) if len(x) else []
    assert [each.value for each in measures] == [0.0] * len(measures)


def test_no_test_sample_leaks_nothing():
    place, cosine = leaked(torch.zeros(0, 3), planted(4, dim=3))
    assert place.shape == cosine.shape == (0,)


def test_it_needs_no_labels_and_no_test_split():
    data = FakeData(labeled=False)
    encoder = FakeEncoder(data.spec()).eval()
    assert [each.metric for each in Duplicates().judge(encoder, data)] == ["train"]
    whole = Duplicates().judge(encoder, FakeData())
    assert [each.metric for each in whole] == ["train", "test in train"]
    with pytest.raises(ValueError, match="give a cosine"):
        Duplicates(threshold=1.5)
    with pytest.raises(ValueError, match="neighbors is 0: give 1 or more"):
        near_duplicates(planted(), neighbors=0)
    with pytest.raises(ValueError, match="the bank has 0 rows"):
        leaked(planted(), planted(0))
