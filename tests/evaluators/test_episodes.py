import math

import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestCentroid
from torch.nn.functional import one_hot

from tests.evaluators.fakes import FakeData, FakeEncoder
from unlabeled.evaluators.episodes import (
    Episodes,
    accuracies,
    draw_episodes,
    half_width,
    nearest_mean,
    ridge,
)
from unlabeled.evaluators.named import resolved
from unlabeled.features import Features


def clusters(classes=6, each=40, noise=0.1, dim=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    center = 5 * torch.randn(classes, dim, generator=generator)
    label = torch.arange(classes).repeat_interleave(each)
    x = center[label] + noise * torch.randn(len(label), dim, generator=generator)
    order = torch.randperm(len(label), generator=generator)
    return Features(x[order], label[order])


def test_an_episode_has_its_classes_and_no_sample_twice():
    label = torch.arange(7).repeat(30)
    label = label[torch.randperm(len(label))]
    places = draw_episodes(
        label, episodes=50, way=4, each=9, generator=torch.Generator().manual_seed(0)
    )
    assert places.shape == (50, 4, 9)
    assert (label[places] == label[places][..., :1]).all()
    for episode in places:
        assert len(episode.flatten().unique()) == 36
        assert len(label[episode[:, 0]].unique()) == 4
    drawn = label[places[:, :, 0]].flatten().bincount(minlength=7)
    assert (drawn > 0).all()
    assert len(places.flatten().unique()) > 200  # and not the same few samples


def test_small_classes_are_never_drawn():
    label = torch.cat([torch.zeros(3), torch.ones(20), torch.full((20,), 2.0)]).long()
    places = draw_episodes(
        label, episodes=20, way=2, each=5, generator=torch.Generator().manual_seed(0)
    )
    assert set(label[places].unique().tolist()) == {1, 2}
    with pytest.raises(ValueError, match="2 of 3 test classes have 5 samples"):
        draw_episodes(label, episodes=1, way=3, each=5, generator=torch.Generator())


def test_heads_agree_with_a_slow_loop():
    generator = torch.Generator().manual_seed(1)
    support = torch.randn(3, 4, 2, 5, generator=generator, dtype=torch.float64)
    query = torch.randn(3, 4, 6, 5, generator=generator, dtype=torch.float64)
    near, linear = nearest_mean(support, query), ridge(support, query, strength=0.3)
    for e in range(3):
        x = support[e].flatten(0, 1)
        mean = x.mean(0)
        y = one_hot(torch.arange(4).repeat_interleave(2), 4).double() - 0.25
        centered = x - mean
        scale = centered.square().sum(1).mean()
        # the primal solution, where the code solves the dual
        weight = torch.linalg.solve(
            centered.T @ centered + 0.3 * scale * torch.eye(5, dtype=torch.float64), centered.T @ y
        )
        for c in range(4):
            for q in range(6):
                distance = (query[e, c, q] - support[e].mean(1)).square().sum(1)
                assert torch.allclose(near[e, c, q], -distance)
                assert torch.allclose(linear[e, c, q], (query[e, c, q] - mean) @ weight)


def test_heads_agree_with_scikit_learn():
    generator = torch.Generator().manual_seed(2)
    support = torch.randn(5, 4, 3, 6, generator=generator, dtype=torch.float64)
    query = torch.randn(5, 4, 7, 6, generator=generator, dtype=torch.float64)
    near = nearest_mean(support, query).argmax(3)
    linear = ridge(support, query, strength=0.5)
    label = torch.arange(4).repeat_interleave(3)
    for e in range(5):
        x, q = support[e].flatten(0, 1), query[e].flatten(0, 1)
        centroid = NearestCentroid().fit(x.numpy(), label.numpy())
        assert near[e].flatten().tolist() == centroid.predict(q.numpy()).tolist()
        alpha = 0.5 * float((x - x.mean(0)).square().sum(1).mean())
        target = one_hot(label, 4).double().numpy()
        theirs = torch.from_numpy(Ridge(alpha=alpha).fit(x.numpy(), target).predict(q.numpy()))
        assert torch.allclose(linear[e].flatten(0, 1) + 0.25, theirs)


def test_a_common_offset_changes_no_distance():
    generator = torch.Generator().manual_seed(3)
    label = torch.arange(6).repeat_interleave(40)
    x = torch.randn(6, 16, generator=generator)[label]
    x = x + 2 * torch.randn(240, 16, generator=generator) + 1e4
    places = draw_episodes(label, episodes=50, way=5, each=20, generator=generator)
    single, double = (
        accuracies(each, places, shots=5, head=nearest_mean) for each in (x, x.double())
    )
    assert (single - double).abs().mean() < 0.01
    assert double.mean() > 0.5


def test_separate_clusters_are_all_right_and_chance_is_chance():
    good = Episodes(shots=(1, 5), episodes=50).score(clusters(), clusters(seed=0))
    assert [each.value for each in good] == [100.0] * 4
    blind = clusters(noise=1e4)
    found = Episodes(shots=(5,), episodes=400).score(blind, blind)
    assert all(abs(each.value - 20) < 3 for each in found)


def test_the_strength_means_the_same_at_any_scale():
    train = clusters(noise=4.0)
    scaled = Features(1000 * train.x, train.label)
    first, second = (
        [each.value for each in Episodes(episodes=50).score(each, each)] for each in (train, scaled)
    )
    assert first == pytest.approx(second, abs=0.2)


def test_the_half_width_is_that_of_the_mean():
    test = clusters(noise=6.0)
    (found, _) = Episodes(shots=(1,), episodes=600).score(test, test)
    spread = torch.tensor(found.trials, dtype=torch.float64).std()
    assert found.details["half_width_95"] == pytest.approx(1.96 * spread / math.sqrt(600))
    values = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(300)
    assert half_width(50 + 10 * values / values.std()) == pytest.approx(0.800, abs=5e-4)
    assert half_width(values[:1]) == 0.0


def test_accuracies_do_not_depend_on_the_block(monkeypatch):
    test = clusters(noise=6.0)
    places = draw_episodes(
        test.label, episodes=30, way=5, each=8, generator=torch.Generator().manual_seed(0)
    )
    whole = accuracies(test.x, places, shots=3, head=nearest_mean)
    monkeypatch.setattr("unlabeled.evaluators.episodes.BLOCK", 1)
    assert torch.equal(accuracies(test.x, places, shots=3, head=nearest_mean), whole)


def test_few_classes_make_fewer_ways_and_few_samples_are_said():
    data = FakeData(kinds=3, train=120, test=120)
    encoder = FakeEncoder(data.spec()).eval()
    assert set(Episodes(episodes=5)(encoder, data)) >= {"episodes/3-way 20-shot ridge"}
    with pytest.raises(ValueError, match=r"ask for fewer shots.*5 classes have 40"):
        Episodes(shots=(50,)).score(clusters(), clusters())
    with pytest.raises(ValueError, match="at least 1"):
        Episodes(shots=())
    assert resolved(["episodes"])[0] == Episodes()
