import pytest
import torch

from unlabeled.ops.mixture import Mixture, draw_mixture, mix, reversed_rows


def draw(seed, **changes):
    options = {"height": 20, "width": 30, "global_share": 0.5, "beta": 1.0}
    return draw_mixture(seed=seed, **{**options, **changes})


def test_the_share_of_global_mixtures_and_their_weight():
    drawn = [draw(seed) for seed in range(600)]
    everywhere = [each for each in drawn if each.box is None]
    assert 240 < len(everywhere) < 360
    assert all(each.box is None for each in (draw(s, global_share=1.0) for s in range(50)))
    assert all(each.box is not None for each in (draw(s, global_share=0.0) for s in range(50)))
    weights = torch.tensor([each.weight for each in everywhere])
    assert abs(weights.mean().item() - 0.5) < 0.06  # Beta(1, 1) is uniform
    assert abs(weights.std().item() - 12**-0.5) < 0.04
    narrow = torch.tensor([draw(s, global_share=1.0, beta=50.0).weight for s in range(100)])
    assert narrow.std() < 0.08
    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_a_region_counts_by_its_exact_pixels():
    x, other = torch.zeros(2, 3, 20, 30), torch.ones(2, 3, 20, 30)
    cut = 0
    for seed in range(200):
        mixture = draw(seed, global_share=0.0)
        mixed = mix(x, other, mixture)
        assert mixed.mean().item() == pytest.approx(1 - mixture.weight, abs=1e-6)
        assert set(mixed.unique().tolist()) <= {0.0, 1.0}
        top, left, bottom, right = mixture.box
        cut += top == 0 or left == 0 or bottom == 20 or right == 30
    assert cut > 50  # boxes at the edge are cut, and weigh what is left of them
    assert x.sum() == 0


def test_a_global_mixture_is_the_convex_combination():
    x, other = torch.rand(4, 1, 5, 5), torch.rand(4, 1, 5, 5)
    torch.testing.assert_close(mix(x, other, Mixture(0.3, None)), 0.3 * x + 0.7 * other)
    assert torch.equal(mix(x, other, Mixture(1.0, None)), x)
    torch.testing.assert_close(mix(x, other, Mixture(0.0, None)), other)


def test_reverse_order_undoes_itself_and_carries_gradients():
    x = torch.randn(5, 2, requires_grad=True)
    assert torch.equal(reversed_rows(x)[0], x[4])
    assert torch.equal(reversed_rows(reversed_rows(x)), x)
    reversed_rows(x)[0].sum().backward()
    assert x.grad.nonzero()[:, 0].tolist() == [4, 4]


@pytest.mark.parametrize("changes", [{"global_share": 1.2}, {"beta": 0.0}])
def test_values_out_of_range_are_refused(changes):
    with pytest.raises(ValueError, match=r"(global_share|beta) is"):
        draw(0, **changes)
