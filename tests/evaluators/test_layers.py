import pytest
import torch
from torch import Tensor

from tests.evaluators.fakes import FakeData, FakeEncoder, blobs
from unlabeled.evaluators.layers import Layers
from unlabeled.evaluators.linear import Linear
from unlabeled.features import Features, embed


class Staged(FakeEncoder):
    """A stage that says nothing, and the features."""

    def stages(self, x: Tensor) -> list[Tensor]:
        return [torch.zeros(len(x), 3) + torch.arange(3), self(x)]


def test_each_stage_is_judged_by_the_linear_probe():
    data = FakeData(train=120, test=60)
    encoder = Staged(data.spec()).train()
    first, *stages = Layers().judge(encoder, data)
    train, test = embed(encoder, data), embed(encoder, data, split="test")
    expected = Linear().score(train, test)[0]
    assert [each.metric for each in stages] == ["top1 of stage 1", "top1 of stage 2"]
    assert stages[1].value == pytest.approx(expected.value)
    assert torch.equal(stages[1].hits, expected.hits)
    assert stages[0].value == pytest.approx(100 / 3, abs=10)
    assert first.metric == "top1"
    assert (first.value, first.details["stage"]) == (stages[1].value, 2)
    assert encoder.training
    named = Layers()(encoder, data)
    assert named["layers/top1 of stage 2"] == stages[1].value


def test_test_does_not_choose_the_stage():
    """The first stage holds out best inside train; on test, where it says nothing, it is worst."""
    good, none = blobs(200, apart=3.0), blobs(100, apart=3.0, seed=1)
    shuffled = Features(none.x[torch.randperm(100)], none.label)
    weak = blobs(200, apart=0.3), blobs(100, apart=0.3, seed=1)
    best, first, second = Layers().score([(good, shuffled), weak])
    assert best.details["stage"] == 1
    assert best.value == first.value < second.value


def test_all_stages_pass_in_one_forward_pass():
    data = FakeData(train=90, test=40)
    encoder = Staged(data.spec())
    Layers().judge(encoder, data)
    assert encoder.passes == 2


def test_a_part_of_train_is_stratified_and_test_is_whole():
    data = FakeData(train=90, test=40)
    found = Layers(rows=30).judge(Staged(data.spec()), data)
    assert {(each.train, each.test) for each in found} == {(30, 40)}
    assert Layers(rows=30).plain(data)[0].train == 30


def test_the_floor_without_a_network_is_the_raw_input():
    data = FakeData(train=90, test=40)
    train, test = embed(data.raw, data), embed(data.raw, data, split="test")
    (floor,) = Layers().plain(data)
    assert floor.metric == "top1"
    assert floor.value == pytest.approx(Linear().score(train, test)[0].value)


def test_data_without_labels_has_no_measures():
    data = FakeData(labeled=False)
    assert Layers().judge(Staged(data.spec()), data) == []
    assert Layers().plain(data) == []


def test_what_cannot_be_judged_says_so():
    data = FakeData()
    with pytest.raises(ValueError, match="does not show its stages"):
        Layers().judge(FakeEncoder(data.spec()), data)
    with pytest.raises(ValueError, match="rows is 0"):
        Layers(rows=0)
