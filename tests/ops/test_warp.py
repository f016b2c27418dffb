import pytest
import torch

from unlabeled.ops.warp import (
    compose,
    inconsistent,
    invert,
    pixel_places,
    splatted,
    transform,
    transformed_flow,
    uncovered,
    warp,
)

H, W = 12, 16


def still(count=2):
    return torch.eye(3)[:2].repeat(count, 1, 1)


def zoomed(z):
    """Places in a frame that is magnified by z about its middle, to places before."""
    theta = still(1) / z
    theta[:, :, 2] = torch.tensor([(W - 1) / 2, (H - 1) / 2]) * (1 - 1 / z)
    return theta


def test_warping_reads_where_the_flow_points():
    x = torch.rand(1, 3, H, W)
    flow = torch.zeros(1, 2, H, W)
    flow[:, 0], flow[:, 1] = 2, -1
    out = warp(x, flow)
    torch.testing.assert_close(out[..., 1:, :-2], x[..., :-1, 2:])
    flow[:, 0], flow[:, 1] = 0.5, 0
    torch.testing.assert_close(warp(x, flow)[..., :-1], (x[..., :-1] + x[..., 1:]) / 2)


@pytest.mark.parametrize("shift", [1, 3])
def test_a_shift_uncovers_as_many_columns(shift):
    flow = torch.zeros(1, 2, H, W)
    flow[:, 0] = shift  # forward; what comes in on the right has not been seen
    hidden = uncovered(-flow)
    assert hidden.sum() == shift * H
    assert hidden[..., -shift:].all()
    assert not uncovered(torch.zeros(1, 2, H, W)).any()


def test_splatting_keeps_what_lands_inside():
    torch.manual_seed(0)
    flow = torch.rand(2, 2, H, W) - 0.5
    flow[:, :, [0, -1]] = 0
    flow[:, :, :, [0, -1]] = 0
    torch.testing.assert_close(splatted(flow).sum((1, 2, 3)), torch.full((2,), float(H * W)))


def test_flow_there_and_back_is_consistent_and_to_nowhere_is_not():
    there = torch.zeros(1, 2, H, W)
    there[:, 0] = 2
    wrong = inconsistent(there, -there)
    assert not wrong[..., :-2].any()
    assert wrong[..., -2:].all(), "what leaves the frame"
    assert inconsistent(there, there)[..., :-2].all()


def test_maps_compose_and_invert():
    torch.manual_seed(0)
    one, other = still() + 0.1 * torch.randn(2, 2, 3), still() + 0.1 * torch.randn(2, 2, 3)
    places = pixel_places(torch.zeros(H, W)).expand(2, -1, -1, -1)
    both = transform(one, transform(other, places))
    torch.testing.assert_close(transform(compose(one, other), places), both)
    torch.testing.assert_close(transform(invert(one), transform(one, places)), places)


def test_flow_of_frames_as_they_were_stays():
    flow = torch.randn(2, 2, H, W)
    torch.testing.assert_close(transformed_flow(flow, still(), still()), flow, atol=1e-4, rtol=0)


def test_moving_both_frames_moves_the_flow_and_moving_the_second_adds_to_it():
    flow = torch.randn(1, 2, H, W)
    moved = still(1)
    moved[:, 0, 2] = 3
    found = transformed_flow(flow, moved, moved)
    torch.testing.assert_close(found[..., :-3], flow[..., 3:], atol=1e-4, rtol=0)
    found = transformed_flow(flow, still(1), moved)
    torch.testing.assert_close(found[:, 0], flow[:, 0] - 3, atol=1e-4, rtol=0)


def test_magnified_frames_have_magnified_flow():
    """A point that lay at m + x and moved by f lies at m + z x and moves by z f."""
    places = pixel_places(torch.zeros(H, W))
    middle = torch.tensor([(W - 1) / 2, (H - 1) / 2])[:, None, None]
    flow = (0.1 * (places - middle) + 0.5)[None]  # linear, so that reading it is exact
    found = transformed_flow(flow, zoomed(1.25), zoomed(1.25))
    expected = 1.25 * (0.1 * (places - middle) / 1.25 + 0.5)
    torch.testing.assert_close(found[0], expected, atol=1e-4, rtol=0)
