import pytest
import torch

from unlabeled.ops.neighbors import distances, nearest_others, related


def test_nearest_others_equal_a_loop_over_all_pairs():
    torch.manual_seed(0)
    x = torch.randn(30, 4, dtype=torch.float64) + 50
    found = nearest_others(x, k=3, block=7)
    for i in range(30):
        far = [(x[i] - x[j]).norm().item() if j != i else float("inf") for j in range(30)]
        assert found[i].tolist() == sorted(range(30), key=far.__getitem__)[:3]


def test_a_row_is_not_its_own_neighbor_though_another_is_equal():
    x = torch.tensor([[0.0], [0.0], [5.0]])
    assert nearest_others(x, k=1).flatten().tolist()[:2] == [1, 0]


@pytest.mark.parametrize("k", [0, 4])
def test_k_must_leave_others(k):
    with pytest.raises(ValueError, match=r"give 1 \.\. 3"):
        nearest_others(torch.randn(4, 2), k=k)


def test_related_is_symmetric_and_holds_for_one_sided_neighbors():
    index = torch.tensor([4, 7, 9, 4])
    neighbors = torch.tensor([[7, 1], [2, 3], [0, 1], [7, 1]])
    expected = torch.eye(4, dtype=torch.bool)
    for i, j in ((0, 1), (1, 3), (0, 3)):  # 4 lists 7; both fours are one sample
        expected[i, j] = expected[j, i] = True
    assert torch.equal(related(index, neighbors), expected)


def test_distance_has_no_gradient_where_points_meet():
    one = torch.tensor([[3.0, 4.0], [1.0, 1.0]], requires_grad=True)
    other = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    value = distances(one, other)
    assert value.tolist() == [5.0, 0.0]
    value.sum().backward()
    torch.testing.assert_close(one.grad, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
