import torch

from unlabeled.data.clips import Clips
from unlabeled.encoders.video import small_video, video_resnet18
from unlabeled.methods.video.crw import CRW, paper, small
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.walk import WalkPatches

CLIPS = Clips(frames=4, side=32, train=4, test=2)


def method(**options):
    torch.manual_seed(0)
    return CRW(small_video(CLIPS.spec(), widths=(8, 16)), dim=8, **options)


def batch_of():
    raw = CLIPS.split("train").__getitems__([0, 1, 2])
    views = WalkPatches(frames=3, patch=16, stride=8).fit(CLIPS.spec())
    return views(raw, SampleGenerator(0, 0, raw["index"]))


def test_identical_frames_are_walked_there_and_back_at_low_temperature():
    batch = batch_of()
    batch["views"][0][:] = batch["views"][0][:, :1]
    batch["dropped"][:] = False
    cold, warm = (method(temperature=t).eval().loss(batch)["walk"].item() for t in (1e-4, 1.0))
    assert cold < 0.05
    assert warm > 1.5


def test_the_loss_trains_encoder_and_head():
    made = method()
    made.loss(batch_of())["walk"].backward()
    assert all(value.grad is not None for value in made.parameters())
    assert set(made.predictors()) == {"embed", "frames"}


def test_networks_do_not_see_the_frame_s_edge_as_zeros():
    torch.manual_seed(0)
    encoder = video_resnet18(CLIPS.spec()).eval()
    flat = torch.full((1, 3, 64, 64), 1.7)
    maps = encoder.frame_maps(flat)
    assert maps.shape == (1, 256, 8, 8)
    torch.testing.assert_close(maps, maps[:, :, :1, :1].expand_as(maps), atol=1e-4, rtol=1e-4)
    small_maps = small_video(CLIPS.spec()).eval().frame_maps(flat)
    assert small_maps.shape == (1, 64, 16, 16)


def test_the_recipes_are_the_paper_s():
    views = paper().views
    assert (views.patch, views.stride, views.drop, paper().data.side) == (64, 32, 0.1, 256)
    assert small().views.frames == 4
