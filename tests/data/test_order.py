import pytest
import torch

from unlabeled.data.digits import Digits
from unlabeled.data.order import permutation, spread, windowed

SIZES = [50] * 30
SHARD = torch.repeat_interleave(torch.arange(30), torch.tensor(SIZES))


def order(**changes):
    return windowed(SIZES, **{"window": 4, "seed": 3, "epoch": 0, **changes})


def test_a_windowed_order_is_a_permutation_that_follows_from_seed_and_epoch():
    assert order().sort().values.tolist() == list(range(1500))
    assert torch.equal(order(), order())
    assert not torch.equal(order(), order(epoch=1))
    assert not torch.equal(order(), order(seed=4))


@pytest.mark.parametrize("window", [1, 4, 9])
def test_at_most_a_window_and_one_shards_are_open_and_none_is_opened_twice(window):
    shards = SHARD[order(window=window)].tolist()
    first = {shard: shards.index(shard) for shard in set(shards)}
    last = {shard: len(shards) - 1 - shards[::-1].index(shard) for shard in set(shards)}
    for place in range(len(shards)):
        live = [shard for shard in first if first[shard] <= place <= last[shard]]
        assert len(live) <= window + 1
    opened = sorted(first, key=first.__getitem__)
    assert opened == permutation(30, seed=3, epoch=0).tolist()


def test_a_batch_mixes_the_shards_of_the_window():
    middle = SHARD[order()][600:664]
    counts = middle.bincount(minlength=30)
    assert (counts > 0).sum() >= 4
    assert counts.max() < 40


def test_samples_of_a_shard_come_in_an_order_of_the_epoch():
    whole = order(window=1)
    own = whole[SHARD[whole] == 7]
    assert own.tolist() != sorted(own.tolist())


def test_unequal_and_empty_shards_are_all_read():
    sizes = [3, 0, 70, 1, 0, 9, 40]
    found = windowed(sizes, window=2, seed=0, epoch=5)
    assert found.sort().values.tolist() == list(range(sum(sizes)))


def test_few_shards_are_shuffled_as_a_whole():
    assert torch.equal(
        windowed([5, 6], window=2, seed=1, epoch=2), permutation(11, seed=1, epoch=2)
    )


def test_a_window_of_no_shards_is_refused():
    with pytest.raises(ValueError, match="window is 0: mix 1"):
        order(window=0)


def test_other_sources_keep_the_permutation_of_all_samples():
    source = Digits()
    expected = torch.randperm(
        source.size("train"), generator=torch.Generator().manual_seed(3 * 1_000_003 + 2)
    )
    assert torch.equal(source.epoch_order(seed=3, epoch=2), expected)
    assert source.some(10) == spread(source.size("train"), 10)
