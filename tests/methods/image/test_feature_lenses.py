from functools import partial

import pytest
import torch

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.image import small_resnet
from unlabeled.encoders.lenses import lens_encoder
from unlabeled.methods.image import feature_lenses
from unlabeled.methods.image.feature_lenses import FeatureLenses, top_k_contrast
from unlabeled.schedule import Clock

SPEC = ImageSpec(channels=1, size=16, mean=(0.5,), std=(0.5,))


@pytest.fixture
def method():
    encoder = lens_encoder(SPEC, host=partial(small_resnet, widths=(8, 8, 16)), scales=(0.5,))
    return FeatureLenses(encoder, host=None, base_k=3.0)


def batch_of(count=6):
    return {"views": [torch.randn(count, 1, 16, 16)], "index": torch.arange(count)}


def test_equal_features_cost_nothing():
    target = torch.randn(4, 3, 5, 5)
    assert top_k_contrast(target, target.clone(), keep=10).item() == 0


@pytest.mark.parametrize("c", [0.1, 0.7])
def test_features_that_are_too_low_everywhere(c):
    """d = -c: undershoot c mean(target over H), overshoot rho c of the lows, 3 (U + 0.2 O)."""
    target = torch.randn(6, 2, 7, 7, dtype=torch.float64)
    rows = target.transpose(0, 1).flatten(1)
    rho = sum(row[row > 0].std() for row in rows) / sum(row[row < 0].std() for row in rows)
    expected = 3 * (c * rows.topk(8, 1).values.mean() + 0.2 * rho * c)
    torch.testing.assert_close(top_k_contrast(target, target - c, keep=8), expected)


def test_equals_a_slow_loop():
    target = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    found = target + 0.3 * torch.randn_like(target)
    keep, high, low, over, under_low = 6, [], [], [], []
    rows0, rows1 = (value.transpose(0, 1).flatten(1).tolist() for value in (target, found))
    for row0, row1 in zip(rows0, rows1, strict=True):
        order = sorted(range(len(row0)), key=lambda place, row0=row0: row0[place])
        peaks = sorted(range(len(row1)), key=lambda place, row1=row1: -row1[place])[: keep // 2]
        high += [(row0[p] - row1[p]) * row0[p] for p in order[-keep:] if row1[p] < row0[p]]
        low += [(row1[p] - row0[p]) * -row0[p] for p in order[:keep] if row1[p] > row0[p]]
        over += [max(row1[p] - row0[p], 0) for p in peaks]
        under_low += [max(row0[p] - row1[p], 0) for p in order[:keep]]

    def spread(sign):
        parts = [torch.tensor([v for v in row if v * sign > 0]) for row in rows0]
        return sum(part.double().std().item() for part in parts)

    def mean(values):
        return sum(values) / max(1, len(values))

    rho = spread(1) / spread(-1)
    under = mean(high) + rho * mean(low)
    expected = 3 * (under + 0.2 * (mean(over) + rho * mean(under_low)))
    value = top_k_contrast(target, found, keep=keep).item()
    assert value == pytest.approx(expected, rel=1e-5)


def test_too_much_at_the_targets_own_peaks_costs_less_than_elsewhere():
    target = torch.zeros(1, 1, 1, 8)
    target[..., :4] = torch.tensor([4.0, 3.0, 2.0, 1.0])
    target[..., 4:] = -torch.tensor([1.0, 2.0, 3.0, 4.0])
    higher = target.clone()
    higher[..., 4] = 9  # a peak where the target has none
    assert top_k_contrast(target, higher, keep=2).item() > 0
    lower = target.clone()
    lower[..., 2] = -9  # not among the two extremes of either side
    assert top_k_contrast(target, lower, keep=2).item() == 0


def test_lenses_and_selector_learn_and_the_host_does_not(method):
    before = {name: value.clone() for name, value in method.encoder.host.state_dict().items()}
    terms = method.train().loss(batch_of())
    assert set(terms) == {"rotation", "scale0.5", "selector"}
    sum(terms.values()).backward()
    for part in (method.encoder.rotations, method.encoder.scales, method.encoder.selector):
        assert all(value.grad is not None for value in part.parameters())
    assert all(value.grad is None for value in method.encoder.host.parameters())
    after = method.encoder.host.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_every_lens_gets_its_share_of_every_batch(method):
    seen = []
    for lens in method.encoder.rotations:
        lens.register_forward_hook(lambda m, x, y: seen.append((m.turns, len(x[0].shortcut))))
    method.loss(batch_of(12))
    assert sorted(seen) == [(1, 4), (2, 4), (3, 4)]


def test_the_host_starts_from_what_is_named(tmp_path, method):
    torch.save(method.encoder.host.state_dict(), tmp_path / "host.pt")
    encoder = lens_encoder(SPEC, host=partial(small_resnet, widths=(8, 8, 16)), scales=())
    other = FeatureLenses(encoder, host=str(tmp_path / "host.pt"))
    for name, value in method.encoder.host.state_dict().items():
        assert torch.equal(other.encoder.host.state_dict()[name], value), name


def test_recipe_is_the_papers():
    recipe = feature_lenses.paper()
    rates = [recipe.optim.lr(Clock(step, 16, 8)) for step in (0, 1, 2, 15)]
    assert rates == pytest.approx([0.01, 0.01, 0.005, 0.01 / 2**7])
    with torch.device("meta"):
        method = recipe.build()
    encoder = method.encoder
    assert [lens.turns for lens in encoder.rotations] == [1, 2, 3]
    assert [lens.scale for lens in encoder.scales] == [0.5, 0.33]
    assert encoder.rotations[0].mix.conv.weight.shape == (2048 * 2 * 5, 512 + 2048, 1, 1)
    assert encoder.size == (7, 7)
