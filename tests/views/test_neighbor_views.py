from collections import Counter

import pytest
import torch

from unlabeled.data.source import ImageSpec
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.neighbors import NeighborPairs, shifted

SPEC = ImageSpec(channels=1, size=4, mean=(0.0,), std=(1.0,))


def batch(count: int = 2000):
    """Image i has one bright pixel in column 1; its two neighbors have it in columns 0 and 3."""
    own, near = torch.zeros(count, 1, 4, 4), torch.zeros(count, 2, 1, 4, 4)
    own[..., 1] = 1
    near[:, 0, ..., 0] = 1
    near[:, 1, ..., 3] = 1
    places = torch.arange(count)
    return {
        "views": [own],
        "index": places,
        "neighbors": torch.stack([places + 1, places + 2], 1),
        "neighbor_images": near,
    }


def column(view: torch.Tensor) -> list[int]:
    row = view[:, 0, 0]
    return [int(each.argmax()) if each.sum() else -1 for each in row]


def drawn(views: NeighborPairs, **options):
    raw = batch(**options)
    return views.fit(SPEC)(raw, SampleGenerator(0, 0, raw["index"]))


def test_shifted_moves_right_and_lets_black_in():
    images = torch.arange(1.0, 5).expand(3, 2, 2, 4)
    moved = shifted(images, torch.tensor([1, 0, -2]))
    assert moved[0, 0, 0].tolist() == [0, 1, 2, 3]
    assert moved[1, 1, 1].tolist() == [1, 2, 3, 4]
    assert moved[2, 0, 1].tolist() == [3, 4, 0, 0]


def test_without_shifts_the_partner_is_a_neighbor_and_the_anchor_stays():
    result = drawn(NeighborPairs())
    assert set(column(result["views"][0])) == {1}
    counts = Counter(column(result["views"][1]))
    assert set(counts) == {0, 3}
    assert abs(counts[0] / 2000 - 0.5) < 0.05
    assert result["neighbors"].shape == (2000, 2)


def test_with_shifts_the_partner_may_be_the_image_itself_and_both_move_on_their_own():
    result = drawn(NeighborPairs((0, 2)))
    anchors, partners = (column(view) for view in result["views"])
    assert set(anchors) == {1, 3}
    # column 1 or 3: itself; 0 or 2: the first neighbor; 3 or none: the second
    assert set(partners) == {-1, 0, 1, 2, 3}
    itself = sum(p == 1 for p in partners) / 2000
    assert abs(itself - 1 / 6) < 0.04
    together = Counter(zip(anchors, partners, strict=True))
    assert len(together) == 10


def test_views_follow_from_the_sample_and_not_from_the_batch():
    views = NeighborPairs((-1, 0, 1)).fit(SPEC)
    raw = batch(count=8)
    whole = views(raw, SampleGenerator(3, 1, raw["index"]))
    part = {name: [value[0][5:]] if name == "views" else value[5:] for name, value in raw.items()}
    alone = views(part, SampleGenerator(3, 1, part["index"]))
    for one, other in zip(whole["views"], alone["views"], strict=True):
        assert torch.equal(one[5:], other)


def test_bytes_are_normalized():
    raw = batch(count=4)
    raw = {**raw, "views": [(raw["views"][0] * 255).byte()]}
    raw["neighbor_images"] = (raw["neighbor_images"] * 255).byte()
    spec = ImageSpec(channels=1, size=4, mean=(0.5,), std=(0.25,))
    view = NeighborPairs().fit(spec)(raw, SampleGenerator(0, 0, raw["index"]))["views"][0]
    assert sorted(view.unique().tolist()) == [-2.0, 2.0]


def test_data_without_neighbors_are_refused():
    raw = {"views": [torch.zeros(2, 1, 4, 4)], "index": torch.arange(2)}
    with pytest.raises(ValueError, match=r"wrap it, Neighbors\(source"):
        NeighborPairs().fit(SPEC)(raw, SampleGenerator(0, 0, raw["index"]))
