import math

import pytest
import torch
from torch.nn.functional import normalize

from tests.evaluators.fakes import FakeData, FakeEncoder
from unlabeled.evaluation import evaluate
from unlabeled.evaluators.alignment import Alignment, alignment, lidar, uniformity


def test_views_that_agree_are_aligned_and_opposite_ones_are_four_apart():
    z = torch.randn(6, 1, 4).expand(-1, 3, -1)
    assert alignment(z) == pytest.approx(0, abs=1e-12)
    assert alignment(torch.stack([z[:, 0], -z[:, 0]], 1)) == pytest.approx(4)


def test_uniformity_in_closed_form():
    assert uniformity(torch.ones(5, 3)) == pytest.approx(0, abs=1e-12)
    two = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert uniformity(two) == pytest.approx(-8)  # log exp(-2 * 4)
    corners = torch.eye(4)
    assert uniformity(corners) == pytest.approx(-4)  # all pairs sqrt(2) apart


def test_uniformity_of_a_wide_sphere():
    z = torch.randn(1500, 64, generator=torch.Generator().manual_seed(0))
    assert uniformity(z) == pytest.approx(-4 * (1 - 2 / 64), abs=0.01)


def test_a_collapse_onto_the_origin_is_a_collapse():
    z = torch.zeros(6, 3, 4)
    assert alignment(z) == 0
    assert uniformity(z[:, 0]) == 0
    assert lidar(z) == 1


def test_pairs_far_apart_are_not_lost_beside_samples_with_themselves():
    two = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert uniformity(two, t=20) == pytest.approx(-80)


def test_both_equal_a_slow_loop():
    z = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    unit = normalize(z, dim=2)
    pairs = [
        (unit[n, a] - unit[n, b]).square().sum() for n in range(5) for a in range(3)
        for b in range(3) if a != b
    ]  # fmt: skip
    assert alignment(z) == pytest.approx(float(sum(pairs) / len(pairs)))
    first = unit[:, 0]
    far = [
        math.exp(-2 * (first[a] - first[b]).square().sum())
        for a in range(5) for b in range(5) if a != b
    ]  # fmt: skip
    assert uniformity(z[:, 0]) == pytest.approx(math.log(sum(far) / len(far)))


def test_lidar_counts_the_directions_that_tell_samples_apart():
    generator = torch.Generator().manual_seed(0)
    means = torch.zeros(400, 8)
    means[:, :3] = 5 * torch.randn(400, 3, generator=generator)
    z = means[:, None] + 0.1 * torch.randn(400, 6, 8, generator=generator)
    assert lidar(z) == pytest.approx(3, abs=0.1)
    # directions that only the views move count for nothing, however large
    noisy = z.clone()
    noisy[..., 7] += 100 * torch.randn(400, 6, generator=generator)
    assert lidar(noisy) == pytest.approx(3, abs=0.1)
    assert lidar(torch.ones(10, 4, 5)) == 1


def slow_lidar(z, ridge=1e-4, floor=1e-7):
    """Equations 1 to 5 of the paper, a sample and a view at a time."""
    count, views, width = z.shape
    center = z.mean((0, 1))
    between = torch.zeros(width, width, dtype=z.dtype)
    within = ridge * torch.eye(width, dtype=z.dtype)
    for sample in z:
        mean = sample.mean(0)
        between += torch.outer(mean - center, mean - center) / count
        for view in sample:
            within += torch.outer(view - mean, view - mean) / (count * views)
    # the eigenvalues of W^-1/2 B W^-1/2 are those of W^-1 B
    values = torch.linalg.eigvals(torch.linalg.solve(within, between)).real.clamp_min(0)
    share = values / values.sum() + floor
    return math.exp(-sum(float(p) * math.log(float(p)) for p in share))


def test_lidar_equals_a_slow_loop():
    z = torch.randn(9, 4, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    z += 3 * z.mean(1, keepdim=True) * torch.tensor([1.0, 4, 2, 1, 0.5])
    assert lidar(z) == pytest.approx(slow_lidar(z), abs=1e-6)
    assert lidar(1e4 * z) == pytest.approx(lidar(1e2 * z), abs=1e-4)  # but for the ridge


@pytest.mark.parametrize("classes", [2, 4, 7])
def test_lidar_of_separable_samples_is_their_number_less_one(classes):
    # corners of a simplex: all classes - 1 directions tell them apart equally well
    corners = torch.eye(classes, 10, dtype=torch.float64)
    noise = torch.randn(classes, 50, 10, generator=torch.Generator().manual_seed(0)).double()
    noise -= noise.mean(1, keepdim=True)
    assert lidar(corners[:, None] + 1e-4 * noise) == pytest.approx(classes - 1, abs=1e-3)


@pytest.mark.parametrize("value", [0.1, 123.4])
def test_samples_that_differ_by_rounding_are_one_direction(value):
    z = torch.full((37, 3, 8), value)
    z += 1e-7 * value * torch.randn(37, 3, 8, generator=torch.Generator().manual_seed(0))
    assert lidar(z) == 1


def test_the_evaluator_draws_views_of_train_and_leaves_the_encoder():
    data = FakeData(train=40, side=16)
    encoder = FakeEncoder(data.spec()).eval()
    judge = Alignment(rows=30, views=3)
    first, again = judge.judge(encoder, data), judge.judge(encoder, data)
    assert [each.metric for each in first] == ["alignment", "uniformity", "lidar"]
    assert [each.value for each in first] == [each.value for each in again]
    assert set(data.reads) == {"train"}
    blind = FakeEncoder(data.spec()).eval()
    with torch.no_grad():
        blind.conv.weight.zero_()
    flat = judge.judge(blind, data)
    assert flat[0].value == pytest.approx(0, abs=1e-9)
    assert flat[1].value == pytest.approx(0, abs=1e-9)


def test_it_stands_beside_its_floors_without_labels():
    data = FakeData(train=40, labeled=False, side=16)
    scores = evaluate(
        FakeEncoder(data.spec()), data=data, builder=FakeEncoder, random_seeds=1,
        protocols=(Alignment(rows=20, views=2),), device="cpu",
    )  # fmt: skip
    rows = [row for row in scores.rows if row.protocol == Alignment.protocol]
    assert {row.name for row in rows} == {"FakeEncoder", "raw input", "random weights"}


def test_what_cannot_be_asked_is_said():
    with pytest.raises(ValueError, match="two or more of each"):
        Alignment(views=1)

    class Words(FakeData):
        def spec(self):
            return "words"

    encoder = FakeEncoder(FakeData().spec())
    encoder.spec = "words"
    with pytest.raises(ValueError, match="fake is no images"):
        Alignment().judge(encoder, Words())
    with pytest.raises(ValueError, match="fake has 1 training image: alignment compares two"):
        Alignment().judge(FakeEncoder(FakeData().spec()).eval(), FakeData(train=1, side=16))
    with pytest.raises(ValueError, match="1 samples of 1 views: give 2 or more"):
        uniformity(torch.randn(1, 4))
    with pytest.raises(ValueError, match="6 samples of 1 views: give 1 or more of 2 or more"):
        alignment(torch.randn(6, 1, 4))
    with pytest.raises(ValueError, match="1 samples of 3 views: give 2 or more of 2 or more"):
        lidar(torch.randn(1, 3, 4))
