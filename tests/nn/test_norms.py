import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from unlabeled.nn.heads import mlp
from unlabeled.nn.norms import (
    GlobalBatchNorm,
    SplitBatchNorm2d,
    global_batchnorm,
    plain_batchnorm,
    split_batchnorm,
)


def randomized(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return module


def same_state(one, other):
    one, other = one.state_dict(), other.state_dict()
    assert list(one) == list(other)
    for name, value in one.items():
        torch.testing.assert_close(other[name], value)


def network():
    return nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), BatchNormAct2d(4), nn.Flatten(), nn.BatchNorm1d(100)
    )


def test_split_equals_the_chunks_one_by_one():
    split, plain = SplitBatchNorm2d(3, 4), nn.BatchNorm2d(3)
    randomized(plain)
    split.load_state_dict(plain.state_dict())
    x = torch.randn(8, 3, 5, 5) + 2
    outputs, means, variances = [], [], []
    for i in range(4):
        alone = copy.deepcopy(plain)
        outputs.append(alone(x[2 * i : 2 * i + 2]))
        means.append(alone.running_mean)
        variances.append(alone.running_var)
    torch.testing.assert_close(split(x), torch.cat(outputs))
    torch.testing.assert_close(split.running_mean, sum(means) / 4)
    torch.testing.assert_close(split.running_var, sum(variances) / 4)
    assert int(split.num_batches_tracked) == 1
    assert (split(x) - plain(x)).abs().max() > 0.01


def test_one_split_and_eval_mode_are_plain():
    split, plain = SplitBatchNorm2d(3, 1), nn.BatchNorm2d(3)
    for _ in range(2):
        x = torch.randn(6, 3, 4, 4)
        torch.testing.assert_close(split(x), plain(x))
    same_state(plain, split)
    split.splits = 3
    torch.testing.assert_close(split.eval()(x), plain.eval()(x))


def test_split_batchnorm_converts_and_keeps_everything_else():
    torch.manual_seed(0)
    plain = randomized(network())
    split = copy.deepcopy(plain)
    assert split_batchnorm(split, splits=2) is split
    same_state(plain, split)
    assert [type(layer) for layer in split][1:3] == [SplitBatchNorm2d] * 2
    assert type(split[4]) is nn.BatchNorm1d
    x = torch.randn(4, 3, 5, 5)
    halves = torch.cat([plain[:3](x[:2]), plain[:3](x[2:])])
    torch.testing.assert_close(split[:3](x), halves)  # the fused activation still acts
    assert (halves >= 0).all()
    assert [type(layer) for layer in plain_batchnorm(split)] == [type(layer) for layer in plain]
    assert "splits" not in vars(split[1])


def test_global_equals_plain_on_one_rank():
    torch.manual_seed(0)
    plain = randomized(network())
    everywhere = global_batchnorm(copy.deepcopy(plain))
    assert [type(layer) for layer in everywhere if isinstance(layer, GlobalBatchNorm)] == [
        GlobalBatchNorm
    ] * 3
    for mode in (True, False):
        x = torch.randn(4, 3, 5, 5)
        torch.testing.assert_close(everywhere.train(mode)(x), plain.train(mode)(x))
    same_state(plain, everywhere)
    plain_batchnorm(everywhere)
    assert [type(layer) for layer in everywhere] == [type(layer) for layer in plain]
    torch.testing.assert_close(everywhere(x), plain(x))


def test_global_leaves_split_alone_and_takes_any_affine():
    split = split_batchnorm(nn.Sequential(nn.BatchNorm2d(3)), splits=2)
    assert type(global_batchnorm(split)[0]) is SplitBatchNorm2d
    for kind in ("affine", "plain", "scale"):
        head = mlp(4, 6, 3, last_norm=kind)
        converted = global_batchnorm(copy.deepcopy(head))
        x = torch.randn(5, 4)
        torch.testing.assert_close(converted(x), head(x))
    assert type(global_batchnorm(nn.BatchNorm3d(2))) is GlobalBatchNorm
    assert type(plain_batchnorm(GlobalBatchNorm(3, dims=1))) is nn.BatchNorm1d


def test_errors():
    class OwnNorm(nn.BatchNorm2d):
        pass

    with pytest.raises(ValueError, match="OwnNorm is a batch norm of its own kind"):
        global_batchnorm(nn.Sequential(OwnNorm(3)))
    with pytest.raises(ValueError, match="splits is 0"):
        split_batchnorm(nn.BatchNorm2d(3), splits=0)
    with pytest.raises(ValueError, match="batch of 5 does not split into 2"):
        SplitBatchNorm2d(3, 2)(torch.randn(5, 3, 2, 2))
    with pytest.raises(ValueError, match="dims is 4"):
        GlobalBatchNorm(3, dims=4)
