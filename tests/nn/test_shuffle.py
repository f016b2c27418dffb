import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unlabeled.nn import shuffle
from unlabeled.nn.norms import SplitBatchNorm2d, split_batchnorm
from unlabeled.nn.shuffle import share_splits, shuffled_keys


def test_keys_come_back_in_the_order_of_their_views():
    teacher = nn.Linear(4, 3)
    x = torch.randn(8, 4)
    keys = shuffled_keys(teacher, x, seed=1)
    torch.testing.assert_close(keys, F.normalize(teacher(x), dim=1))
    assert not keys.requires_grad


def test_each_seed_gives_a_key_other_company():
    seen = []

    def teacher(x):
        seen.append(x.flatten().long().tolist())
        return x

    for seed in (0, 1, 0):
        shuffled_keys(teacher, torch.arange(1.0, 9.0)[:, None], seed=seed)
    assert seen[0] == seen[2]
    assert seen[0] != seen[1]
    assert all(sorted(order) == list(range(1, 9)) for order in seen)
    assert seen[0] != sorted(seen[0])


def test_keys_are_float32_of_a_half_precision_teacher():
    keys = shuffled_keys(lambda x: x.bfloat16(), torch.randn(4, 8), seed=0)
    assert keys.dtype == torch.float32
    torch.testing.assert_close(keys.norm(dim=1), torch.ones(4))


def test_splits_are_shared_among_the_ranks(monkeypatch):
    net = split_batchnorm(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), splits=8)
    for ranks, expected in ((1, 8), (2, 4), (3, 2), (8, 1), (16, 1)):
        monkeypatch.setattr(shuffle, "world_size", lambda ranks=ranks: ranks)
        share_splits(net, splits=8)
        assert [m.splits for m in net if isinstance(m, SplitBatchNorm2d)] == [expected]
    with pytest.raises(ValueError, match="splits is 0"):
        share_splits(net, splits=0)
