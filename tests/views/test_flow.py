import pytest
import torch

from unlabeled.data.pairs import PairSpec
from unlabeled.ops.warp import pixel_places, sample_at, transform
from unlabeled.views.flow import FlowAnalogy
from unlabeled.views.generator import SampleGenerator

SPEC = PairSpec(height=32, width=48)
PLAIN = {"color": 0.0, "gamma": (1.0, 1.0), "blur": 0.0, "noise": 0.0}


def views_of(count=12, epoch=0, **options):
    torch.manual_seed(0)
    frames = (255 * torch.rand(count, 2, 3, 32, 48)).byte()
    batch = {"views": [frames], "index": torch.arange(count)}
    made = FlowAnalogy(unit=16, parts=24, holes=(2, 3), **options).fit(SPEC)
    return frames.float() / 255, made(batch, SampleGenerator(0, epoch, batch["index"]))


def test_frames_are_exchanged_and_mirrored_half_of_the_time():
    before, batch = views_of(40)
    pairs = batch["views"][0]
    forms = torch.stack([before, before.flip(1), before.flip(4), before.flip(1, 4)])
    same = (forms == pairs).flatten(2).all(2)
    assert (same.sum(0) == 1).all()
    assert (same.sum(1) >= 3).all()


def test_the_maps_say_where_the_altered_frames_come_from():
    _, batch = views_of(**PLAIN)
    pairs, altered, _ = batch["views"]
    places = pixel_places(pairs).expand(len(pairs), -1, -1, -1)
    for number, theta in enumerate(batch["maps"]):
        old = transform(theta, places)
        assert old[:, 0].min() > -0.01
        assert old[:, 0].max() < 47.01
        assert old[:, 1].min() > -0.01
        assert old[:, 1].max() < 31.01
        torch.testing.assert_close(altered[:, number], sample_at(pairs[:, number], old))
    first, second = batch["maps"]
    apart = (transform(first, places) - transform(second, places)).abs()
    assert 0 < apart.max() < 3, "the second frame's map is a little different"
    moved = (first - torch.eye(3)[:2]).abs().flatten(1).amax(1)
    assert (moved > 0.01).float().mean() > 0.8, "few pairs stay as they are"


def test_color_changes_alike_in_both_frames():
    frames = torch.full((8, 2, 3, 32, 48), 100, dtype=torch.uint8)
    batch = {"views": [frames], "index": torch.arange(8)}
    made = FlowAnalogy(unit=16, noise=0.0).fit(SPEC)
    altered = made(batch, SampleGenerator(0, 0, batch["index"]))["views"][1]
    torch.testing.assert_close(altered[:, 0], altered[:, 1])
    assert altered.std(0).max() > 0.02


def test_the_crop_is_of_the_frames_but_for_holes_in_the_second():
    _, batch = views_of()
    pairs, _, hidden = batch["views"]
    assert hidden.shape == (12, 2, 3, 16, 32)
    for pair, crop, box in zip(pairs, hidden, batch["box"][0].long(), strict=True):
        top, left, height, width = box.tolist()
        cut = pair[:, :, top : top + height, left : left + width]
        assert torch.equal(cut[0], crop[0])
        same = (cut[1] == crop[1]).all(0).float().mean()
        assert 0.6 < same < 0.98


def test_a_sample_does_not_depend_on_its_batch():
    frames = (255 * torch.rand(4, 2, 3, 32, 48)).byte()
    made = FlowAnalogy(unit=16).fit(SPEC)
    index = torch.arange(4)
    whole = made({"views": [frames], "index": index}, SampleGenerator(0, 0, index))
    alone = made({"views": [frames[2:3]], "index": index[2:3]}, SampleGenerator(0, 0, index[2:3]))
    for one, other in zip(whole["views"], alone["views"], strict=True):
        torch.testing.assert_close(one[2:3], other, atol=1e-6, rtol=0)


def test_a_zoom_below_one_is_refused():
    with pytest.raises(ValueError, match=r"zoom is 0\.5"):
        FlowAnalogy(zoom=0.5)
