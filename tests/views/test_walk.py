from dataclasses import replace

import pytest
import torch

from unlabeled.data.clips import Clips
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.walk import WalkPatches

CLIPS = Clips(frames=6, side=32, train=6, test=2)
WHOLE = {"frame_scale": (1.0, 1.0), "patch_scale": (1.0, 1.0)}


def views_of(count=6, **options):
    raw = CLIPS.split("train").__getitems__(list(range(count)))
    views = WalkPatches(frames=3, patch=16, stride=8, **options).fit(CLIPS.spec())
    return raw["views"][0], views(raw, SampleGenerator(0, 0, raw["index"]))


def test_patches_of_frames_in_a_row_in_order(monkeypatch):
    monkeypatch.setattr("unlabeled.views.walk.RATIO", (1.0, 1.0))
    clips, batch = views_of(**WHOLE)
    (patches,) = batch["views"]
    assert patches.shape == (6, 3, 9, 3, 16, 16)
    spec = CLIPS.spec().image
    mean, std = (torch.tensor(part)[:, None, None] for part in (spec.mean, spec.std))
    pixels = patches * std + mean
    starts = set()
    for clip, grid in zip(clips.float() / 255, pixels, strict=True):
        fits = [
            start
            for start in range(4)
            if torch.allclose(grid[:, 5], clip[start : start + 3, :, 8:24, 16:32], atol=1e-4)
        ]
        starts.update(fits)
        assert len(fits) == 1
    assert len(starts) > 1, "clips begin anywhere"


def test_each_patch_has_a_crop_of_its_own_and_edges_are_dropped():
    _, one = views_of()
    assert one["dropped"].shape == (6, 4, 9, 9)
    assert one["dropped"].float().mean().item() == pytest.approx(0.1, abs=0.03)
    raw = CLIPS.split("train").__getitems__([0])
    raw["views"][0][:] = raw["views"][0][:, :1, :, :, :1]  # rows of one color
    raw["views"][0][:] = torch.arange(32, dtype=torch.uint8)[:, None] * 8
    views = WalkPatches(frames=3, patch=16, stride=8).fit(CLIPS.spec())
    (patches,) = views(raw, SampleGenerator(0, 0, raw["index"]))["views"]
    tops = patches[0, :, :3, 0, 0, 0]  # the first row of patches begins at the same height
    assert tops.unique().numel() > 3, "more than one crop a frame"


def test_a_sample_does_not_depend_on_its_batch():
    _, whole = views_of(6)
    _, part = views_of(2)
    torch.testing.assert_close(whole["views"][0][:2], part["views"][0])
    assert torch.equal(whole["dropped"][:2], part["dropped"])


def test_short_clips_are_refused():
    with pytest.raises(ValueError, match="clips have 6 frames, a walk takes 9"):
        WalkPatches(frames=9, patch=16, stride=8).fit(CLIPS.spec())
    with pytest.raises(ValueError, match="frames is 1"):
        replace(WalkPatches(frames=2, patch=16, stride=8), frames=1)
