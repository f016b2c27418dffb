import pytest
import torch

from unlabeled.data.scenes import directions, draw_rooms, focal_length, photos, truth
from unlabeled.ops.warp import warp

SIZE = {"height": 64, "width": 96}


@pytest.fixture(scope="module")
def rooms():
    return draw_rooms(4, frames=3, seed=5000)


def test_the_second_photo_warped_by_the_flow_is_the_first(rooms):
    one, other = (photos(rooms, time, **SIZE).float() / 255 for time in (1, 2))
    known = truth(rooms, 1, 2, **SIZE)
    seen = ~known.occluded
    apart = (one - warp(other, known.flow)).abs().mean(1)[seen].mean()
    before = (one - other).abs().mean(1)[seen].mean()
    assert apart < 0.02
    assert apart < 0.2 * before


def test_flow_there_and_back_returns(rooms):
    there, back = truth(rooms, 1, 2, **SIZE), truth(rooms, 2, 1, **SIZE)
    off = (there.flow + warp(back.flow, there.flow)).norm(dim=1)[~there.occluded]
    assert off.median() < 1e-3
    assert off.quantile(0.95) < 0.02


def test_nothing_moves_between_a_frame_and_itself(rooms):
    known = truth(rooms, 1, 1, **SIZE)
    torch.testing.assert_close(known.flow, torch.zeros_like(known.flow), atol=2e-4, rtol=0)
    assert not known.occluded.any()


def test_turning_the_head_moves_far_and_near_alike(rooms):
    pose = rooms.pose.clone()
    pose[:, 2] = pose[:, 1]
    pose[:, 2, :3, :3] = pose[:, 1, :3, :3] @ draw_rooms(4, frames=2, seed=1).pose[:, 1, :3, :3]
    frozen = rooms._replace(
        pose=pose, velocity=torch.zeros_like(rooms.velocity), spin=torch.zeros_like(rooms.spin)
    )
    turned = truth(frozen, 1, 2, **SIZE)
    empty = frozen._replace(
        boxes=frozen.boxes._replace(center=torch.full_like(rooms.boxes.center, 99.0))
    )
    torch.testing.assert_close(turned.flow, truth(empty, 1, 2, **SIZE).flow, atol=1e-3, rtol=0)
    assert (turned.depth - truth(empty, 1, 2, **SIZE).depth).abs().max() > 1


def test_rays_go_through_the_middles_of_pixels():
    rays = directions(3, 5)
    assert rays[7].tolist() == [0, 0, 1]
    assert rays[8, 0] == pytest.approx(1 / focal_length(5))
    torch.testing.assert_close(
        directions(3, 5, fine=2).view(3, 2, 5, 2, 3).mean((1, 3)).flatten(0, 1), rays
    )


def test_rooms_are_the_seed_s_and_not_another_s(rooms):
    again, other = draw_rooms(4, frames=3, seed=5000), draw_rooms(4, frames=3, seed=5001)
    assert torch.equal(photos(again, 0, **SIZE), photos(rooms, 0, **SIZE))
    assert not torch.equal(photos(other, 0, **SIZE), photos(rooms, 0, **SIZE))
    depth = truth(rooms, 0, 1, **SIZE).depth
    assert depth.min() > 1
    assert depth.max() < 16
