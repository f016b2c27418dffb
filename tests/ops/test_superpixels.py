import torch

from unlabeled.ops.superpixels import superpixels


def test_parts_follow_color_where_it_breaks_the_grid():
    image = torch.zeros(1, 3, 24, 24)
    image[..., 10:] = 1  # the grid's cells of 8 px do not end there
    label = superpixels(image, count=9)[0]
    assert label.unique().numel() <= 9
    left, right = set(label[:, :10].unique().tolist()), set(label[:, 10:].unique().tolist())
    assert not left & right


def test_without_color_parts_are_the_cells():
    label = superpixels(torch.full((2, 3, 16, 24), 0.5), count=24)
    assert (label[0].flatten().bincount() == 16).all()
    assert (label[0, :4, :4] == 0).all()
