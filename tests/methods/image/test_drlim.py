from dataclasses import replace

import pytest
import torch

from unlabeled.data.source import ImageSpec
from unlabeled.methods.image.drlim import DrLIM, map_encoder

NONE = -1  # the place of no image: nobody's neighbor


def batch(anchors, partners, neighbors=None):
    anchors = torch.as_tensor(anchors)
    index = torch.arange(len(anchors))
    if neighbors is None:
        neighbors = [[NONE]] * len(anchors)
    partners = torch.as_tensor(partners)
    return {"views": [anchors, partners], "index": index, "neighbors": torch.tensor(neighbors)}


def loss(given, content, *, margin=1.0):
    dim = content["views"][0].shape[1]
    (value,) = DrLIM(given(dim), margin=margin).loss(content).values()
    return value


@pytest.mark.parametrize(
    ("apart", "expected"), [(0.25, 0.28125), (1.0, 0.0), (2.0, 0.0), (0.0, 0.5)]
)
def test_images_that_are_no_neighbors_repel_inside_the_margin(given, apart, expected):
    points = torch.tensor([[0.0, 0.0], [apart, 0.0]])
    assert loss(given, batch(points, points)).item() == pytest.approx(expected)


def test_partners_attract_by_half_the_square(given):
    anchors = torch.tensor([[0.0, 0.0], [100.0, 0.0]])
    partners = anchors + torch.tensor([0.0, 3.0])
    assert loss(given, batch(anchors, partners)).item() == pytest.approx(4.5)


def test_the_gradient_is_that_of_the_papers_springs(given):
    """Repulsion -(m - D) / D (G1 - G2); none beyond the margin; attraction G1 - G2."""
    anchors = torch.tensor([[0.5, 0.0], [0.0, 0.0]], requires_grad=True)
    loss(given, batch(anchors, anchors.detach().clone())).backward()
    torch.testing.assert_close(anchors.grad, torch.tensor([[-0.5, 0.0], [0.5, 0.0]]))
    anchors = torch.tensor([[3.0, 0.0], [0.0, 0.0]], requires_grad=True)
    partners = torch.tensor([[3.0, 2.0], [0.0, 0.0]], requires_grad=True)
    loss(given, batch(anchors, partners)).backward()
    # the mean of two attracting pairs; both branches learn
    torch.testing.assert_close(anchors.grad, torch.tensor([[0.0, -1.0], [0.0, 0.0]]))
    torch.testing.assert_close(partners.grad, -anchors.grad)


def test_neighbors_in_the_batch_do_not_repel(given):
    points = torch.tensor([[0.0, 0.0], [0.1, 0.0], [50.0, 0.0]])
    assert loss(given, batch(points, points)).item() > 0.1
    one_sided = [[1], [NONE], [NONE]]  # image 0 lists image 1, not the other way round
    assert loss(given, batch(points, points, one_sided)).item() == 0
    with pytest.raises(ValueError, match="larger batch_size"):
        loss(given, batch(points[:2], points[:2], one_sided[:2]))


def test_loss_equals_a_loop_over_pairs_and_ignores_translation(given):
    torch.manual_seed(0)
    anchors, partners = torch.randn(2, 6, 2, dtype=torch.float64) * 0.6
    neighbors = [[1], [2], [0], [4], [NONE], [0]]
    content = batch(anchors, partners, neighbors)
    pull = [0.5 * (a - b).norm() ** 2 for a, b in zip(anchors, partners, strict=True)]
    push = [
        0.5 * max(torch.tensor(0.0), 1.2 - (anchors[i] - anchors[j]).norm()) ** 2
        for i in range(6)
        for j in range(i + 1, 6)
        if j not in neighbors[i] and i not in neighbors[j]
    ]
    expected = sum(pull) / len(pull) + sum(push) / len(push)
    torch.testing.assert_close(loss(given, content, margin=1.2), expected)
    moved = batch(anchors + 7, partners + 7, neighbors)
    torch.testing.assert_close(loss(given, moved, margin=1.2), expected)
    swapped = {**content, "views": content["views"][::-1]}
    assert loss(given, swapped, margin=1.2) != expected  # other anchors repel


def test_equal_points_have_half_the_square_of_the_margin_and_no_gradient(given):
    """As many similar pairs as others in the mean: m^2 / 2 of the latter; no NaN at distance 0."""
    points = torch.ones(5, 2, requires_grad=True)
    value = loss(given, batch(points, points), margin=2.0)
    assert value.item() == pytest.approx(2.0)
    value.backward()
    assert points.grad.abs().max() == 0


def test_the_network_is_figure_3():
    spec = ImageSpec(channels=1, size=32, mean=(0.1,), std=(0.3,))
    encoder = map_encoder(spec)
    sizes = []
    for layer in encoder.net:
        layer.register_forward_hook(lambda m, x, y: sizes.append(tuple(y.shape[1:])))
    assert encoder(torch.randn(3, 1, 32, 32)).shape == (3, 2)
    assert sizes[0] == (15, 27, 27)
    assert sizes[1] == (15, 9, 9)
    assert sizes[3] == (30, 1, 1)
    with pytest.raises(ValueError, match="needs 8"):
        map_encoder(replace(spec, size=6))
