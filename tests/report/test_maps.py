"""The map and the nearest neighbors, against slow loops."""

from __future__ import annotations

import pytest
import torch

from unlabeled.report.maps import choose, find_neighbors, project


def cosine(a, b):
    return float((a * b).sum() / (a.norm() * b.norm()))


def test_neighbors_equal_a_slow_loop():
    x = torch.randn(40, 5, dtype=torch.float64).float()
    label = torch.arange(40) % 4
    found = find_neighbors(x, label, queries=6, k=3)
    assert len(found.queries) == len(set(found.queries)) == 6
    for query, row in zip(found.queries, found.found, strict=True):
        others = sorted(
            (other for other in range(40) if other != query),
            key=lambda other: -cosine(x[query], x[other]),
        )
        assert [each.number for each in row] == others[:3]
        for each in row:
            assert each.similarity == pytest.approx(cosine(x[query], x[each.number]), abs=1e-4)
            assert each.same == (label[query] == label[each.number])


def test_agreement_counts_all_samples_and_chance_all_pairs():
    x, label = torch.randn(30, 4), torch.tensor([0] * 10 + [1] * 20)
    found = find_neighbors(x, label, queries=2, k=5)
    hits, pairs = [], []
    for query in range(30):
        others = [other for other in range(30) if other != query]
        pairs += [float(label[other] == label[query]) for other in others]
        others.sort(key=lambda other: -cosine(x[query], x[other]))
        hits += [float(label[other] == label[query]) for other in others[:5]]
    assert found.agreement == pytest.approx(sum(hits) / len(hits))
    assert found.chance == pytest.approx(sum(pairs) / len(pairs))


def test_copies_never_make_a_sample_its_own_neighbor():
    found = find_neighbors(torch.ones(20, 3), None, queries=20, k=4)
    for query, row in zip(found.queries, found.found, strict=True):
        assert query not in [each.number for each in row]
        assert len(row) == 4
        assert all(each.same is None for each in row)
    assert found.agreement is None


def test_few_samples_have_fewer_neighbors_or_none():
    assert find_neighbors(torch.randn(1, 3), None) is None
    assert find_neighbors(torch.randn(3, 3), None).k == 2


def test_queries_are_spread_over_the_classes():
    label = torch.tensor([0] * 500 + [1] * 3 + [2] * 1)
    chosen = choose(label, 504, queries=6, seed=0)
    assert sorted(label[chosen].tolist()) == [0, 0, 0, 1, 1, 2]
    assert choose(label, 504, queries=6, seed=0) == chosen
    assert choose(label, 504, queries=6, seed=1) != chosen
    assert len(choose(None, 504, queries=6, seed=0)) == 6


@pytest.mark.parametrize(("count", "technique"), [(5, "PCA"), (60, "t-SNE")])
def test_the_map_keeps_groups_apart_and_fits_the_unit_square(count, technique):
    label = torch.arange(count) % 2
    x = 0.05 * torch.randn(count, 8) + torch.eye(8)[label]
    found = project(x, seed=0)
    assert found.technique == technique
    assert found == project(x, seed=0)
    points = torch.tensor(found.points)
    assert points.min() >= -1e-6
    assert points.max() <= 1 + 1e-6
    assert (points.amax(0) - points.amin(0)).max() == pytest.approx(1, abs=1e-3)
    distance = torch.cdist(points, points) + 10 * torch.eye(count)
    assert (label[distance.argmin(1)] == label).all()


def test_large_maps_are_linear(monkeypatch):
    monkeypatch.setattr("unlabeled.report.maps.TSNE_MOST", 20)
    assert project(torch.randn(21, 4), seed=0).technique == "PCA"


def test_nothing_to_lay_out_gives_no_map():
    assert project(torch.randn(2, 4), seed=0) is None
    assert project(torch.ones(50, 4), seed=0) is None
    assert project(torch.zeros(50, 4), seed=0) is None
