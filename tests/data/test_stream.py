import threading

import pytest
import torch

from unlabeled.data.order import permutation
from unlabeled.data.stream import Stream, read_ahead


def stream(**changes):
    options = {"batch_size": 8, "steps": 6, "accumulate": 1, "seed": 3, **changes}
    return Stream(20, **options)


def test_an_epoch_sees_no_sample_twice_and_epochs_differ():
    batches = list(stream())
    first, second = batches[0] + batches[1], batches[2] + batches[3]
    assert len(set(first)) == len(set(second)) == 16
    assert first != second
    assert first == permutation(20, seed=3, epoch=0)[:16].tolist()


@pytest.mark.parametrize("start", [0, 1, 5])
def test_a_stream_that_starts_later_goes_on_alike(start):
    assert list(stream(start=start)) == list(stream())[start:]
    assert len(stream(start=start)) == 6


@pytest.mark.parametrize(("accumulate", "ranks"), [(1, 2), (2, 1), (2, 2), (4, 2)])
def test_ranks_and_micro_batches_share_out_the_same_global_batches(accumulate, ranks):
    parts = [list(stream(accumulate=accumulate, rank=rank, ranks=ranks)) for rank in range(ranks)]
    whole = list(stream())
    for step, batch in enumerate(whole):
        micro = range(step * accumulate, (step + 1) * accumulate)
        joined = [place for number in micro for part in parts for place in part[number]]
        assert joined == batch


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiple of 6"):
        stream(accumulate=3, ranks=2)


def test_the_order_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    list(stream())
    assert torch.equal(torch.get_rng_state(), before)


def test_read_ahead_keeps_order_and_ends():
    assert list(read_ahead(iter(range(100)), ahead=3)) == list(range(100))


def test_read_ahead_raises_where_the_item_failed():
    def items():
        yield 1
        raise OSError("gone")

    reader = read_ahead(items(), ahead=2)
    assert next(reader) == 1
    with pytest.raises(OSError, match="gone"):
        next(reader)


def test_read_ahead_leaves_no_thread_behind():
    reader = read_ahead(iter(range(1000)), ahead=2)
    next(reader)
    reader.close()
    names = [thread.name for thread in threading.enumerate()]
    assert "unlabeled-read-ahead" not in names
