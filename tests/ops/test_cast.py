import math

import torch

from unlabeled.ops.cast import Boxes, Texture, box_depth, cast, paint, plane_depth, turn_y


def test_planes_are_seen_from_inside_only():
    origin, direction = torch.zeros(1, 2, 3), torch.tensor([[[0.0, 0, 1], [0, 0, -1]]])
    normal, offset = torch.tensor([[0.0, 0, 1]]), torch.tensor([[7.0]])
    assert plane_depth(origin, direction, normal, offset)[0, :, 0].tolist() == [7.0, math.inf]


def test_a_turned_box_is_met_at_its_corner_and_its_own_place_is_told():
    boxes = Boxes(torch.tensor([[[0.0, 0, 5]]]), torch.ones(1, 1, 3), torch.tensor([[math.pi / 4]]))
    origin, direction = torch.zeros(1, 2, 3), torch.tensor([[[0.0, 0, 1], [1, 0, 1]]])
    depth = box_depth(origin, direction, boxes)[0, :, 0]
    torch.testing.assert_close(depth, torch.tensor([5 - math.sqrt(2), math.inf]))
    hits = cast(
        origin,
        direction,
        normal=torch.tensor([[0.0, 0, 1]]),
        offset=torch.tensor([[9.0]]),
        boxes=boxes,
    )
    assert hits.thing[0].tolist() == [1, 0]
    corner = turn_y(torch.tensor([0.0, 0, -math.sqrt(2)]), torch.tensor(-math.pi / 4))
    torch.testing.assert_close(hits.local[0, 0], corner, atol=1e-5, rtol=0)
    torch.testing.assert_close(hits.local[0, 1], torch.tensor([9.0, 0, 9]))


def test_paint_is_the_sum_of_its_waves():
    texture = Texture(
        torch.full((1, 1, 3), 0.5),
        torch.tensor([[[[math.pi, 0, 0]]]]),
        torch.zeros(1, 1, 1),
        torch.tensor([[[[0.2, 0.0, -0.2]]]]),
    )
    hits = cast(
        torch.tensor([[[0.5, 0, 0]]]),
        torch.tensor([[[0.0, 0, 1]]]),
        normal=torch.tensor([[0.0, 0, 1]]),
        offset=torch.tensor([[1.0]]),
        boxes=Boxes(torch.full((1, 1, 3), 99.0), torch.ones(1, 1, 3), torch.zeros(1, 1)),
    )
    torch.testing.assert_close(paint(hits, texture)[0, 0], torch.tensor([0.7, 0.5, 0.3]))
