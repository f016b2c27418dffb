import pytest
import torch
from scipy.optimize import linear_sum_assignment

from unlabeled.ops.assignment import balanced_labels, transport_plan

P = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])


def test_labels_are_balanced_although_every_argmax_is_the_same():
    assert P.argmax(1).tolist() == [0, 0, 0, 0]
    assert balanced_labels(P, power=25.0, tolerance=1e-6).tolist() == [0, 0, 1, 1]


def test_margins():
    plan = transport_plan(P, power=25.0, tolerance=1e-9)
    torch.testing.assert_close(plan.sum(1), torch.full((4,), 0.25).double())
    torch.testing.assert_close(plan.sum(0), torch.full((2,), 0.5).double(), atol=2e-3, rtol=0)
    even = transport_plan(torch.full((6, 3), 1 / 3), power=10.0)
    torch.testing.assert_close(even, torch.full((6, 3), 1 / 18).double())


def test_scaling_a_sample_or_a_cluster_changes_nothing():
    p = torch.rand(20, 4).double() + 0.05
    plan = transport_plan(p, power=5.0, tolerance=1e-10)
    scaled = p * torch.rand(20, 1) * 3
    torch.testing.assert_close(transport_plan(scaled, power=5.0, tolerance=1e-10), plan)
    scaled = p * torch.tensor([1.0, 2.0, 0.5, 3.0])
    other = transport_plan(scaled, power=5.0, tolerance=1e-10)
    torch.testing.assert_close(other, plan, atol=1e-6, rtol=1e-4)


def test_a_large_power_gives_the_best_assignment():
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(12, 3, generator=generator).double().softmax(1)
    labels = balanced_labels(p, power=400.0, tolerance=1e-4)
    cost = -p.log().repeat_interleave(4, 1)  # four places a cluster
    rows, columns = linear_sum_assignment(cost.numpy())
    best = cost.numpy()[rows, columns].sum()
    found = -p.log()[torch.arange(12), labels].sum().item()
    assert labels.bincount(minlength=3).tolist() == [4, 4, 4]
    assert found == pytest.approx(best, rel=1e-3)


def test_probabilities_of_zero_are_no_trouble():
    p = torch.zeros(8, 2)
    p[:, 0] = 1.0
    assert torch.isfinite(transport_plan(p, power=25.0)).all()
    with pytest.raises(ValueError, match="power is 0"):
        transport_plan(P, power=0.0)
