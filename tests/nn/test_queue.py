import pytest
import torch

from unlabeled.nn.queue import FeatureQueue, Queue


def labeled(*labels):
    return torch.tensor(labels, dtype=torch.float32)[:, None].expand(-1, 2)


def first_column(queue):
    return queue.rows[:, 0].int().tolist()


def test_starts_with_unit_rows():
    queue = Queue(50, 8)
    torch.testing.assert_close(queue.rows.norm(dim=1), torch.ones(50))
    assert queue.rows.std() > 0.1
    assert list(queue.parameters()) == []
    assert set(queue.state_dict()) == {"rows", "pointer"}


def test_batches_take_the_place_of_the_oldest():
    queue = Queue(8, 2)
    queue.push(labeled(1, 1, 1, 1))
    queue.push(labeled(2, 2, 2, 2))
    assert first_column(queue) == [1, 1, 1, 1, 2, 2, 2, 2]
    queue.push(labeled(3, 3, 3, 3))
    assert first_column(queue) == [3, 3, 3, 3, 2, 2, 2, 2]
    assert int(queue.pointer) == 4


@pytest.mark.parametrize("batch", [1, 3, 5, 7, 12])
def test_wraps_around_like_one_key_at_a_time(batch):
    queue, slow, place = Queue(5, 2), [None] * 5, 0
    queue.rows.zero_()
    label = 0
    for _ in range(4):
        labels = list(range(label + 1, label + batch + 1))
        label += batch
        queue.push(labeled(*labels))
        for value in labels:
            slow[place] = value
            place = (place + 1) % 5
        assert first_column(queue) == [value or 0 for value in slow]
        assert int(queue.pointer) == place


def test_keeps_no_graph():
    queue = Queue(4, 2)
    queue.push(torch.ones(2, 2, requires_grad=True) * 2)
    assert not queue.rows.requires_grad
    assert queue.rows[0].tolist() == [2, 2]


def test_feature_queue_pushes_in_front_and_knows_when_it_is_full():
    queue = FeatureQueue(crops=2, length=5, dim=2)
    assert not queue.full
    assert queue.rows(0).abs().sum() == 0
    for crop in (0, 1):
        queue.push(crop, labeled(1, 2, 3))
    queue.push(0, labeled(4, 5))
    assert queue.rows(0)[:, 0].tolist() == [4, 5, 1, 2, 3]
    assert queue.rows(1)[:, 0].tolist() == [1, 2, 3, 0, 0]
    assert not queue.full  # crop 1 still holds zeros
    queue.push(1, labeled(6, 7))
    assert queue.full
    queue.push(1, labeled(*range(10, 18)))  # more than the queue holds: the first rows stay
    assert queue.rows(1)[:, 0].tolist() == [10, 11, 12, 13, 14]
    assert queue.rows(0)[:, 0].tolist() == [4, 5, 1, 2, 3]


def test_feature_queue_is_full_after_a_checkpoint_too():
    queue, copy = FeatureQueue(1, 2, 2), FeatureQueue(1, 2, 2)
    queue.push(0, torch.zeros(2, 2, requires_grad=True))
    assert queue.full
    assert not queue.features.requires_grad
    copy.load_state_dict(queue.state_dict())
    assert copy.full


def test_errors():
    with pytest.raises(ValueError, match="0 rows x 2"):
        Queue(0, 2)
    with pytest.raises(ValueError, match="2 x 0 x 3"):
        FeatureQueue(2, 0, 3)
