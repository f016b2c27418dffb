import pytest
import torch

from tests.evaluators.fakes import FakeData, FakeEncoder
from unlabeled.artifacts import Model
from unlabeled.evaluators.alignment import Alignment
from unlabeled.rank_report import rank_report

DATA = FakeData(side=16)


def models(count):
    found = []
    for number in range(count):
        torch.manual_seed(number)
        encoder = FakeEncoder(DATA.spec()).eval()
        with torch.no_grad():
            encoder.conv.weight[:number] = 0  # fewer features, less rank
        found.append(Model(encoder, f"m{number}", FakeEncoder))
    return found


def test_each_score_without_labels_is_held_against_the_linear_probe():
    found = rank_report(
        models(5), data=DATA, protocols=("linear", Alignment(rows=20, views=2)), device="cpu"
    )
    assert found.models == ("m0", "m1", "m2", "m3", "m4")
    names = {line.name for line in found.lines}
    assert names >= {"relative std", "effective rank", "stable rank"}
    assert names >= {"alignment alignment", "alignment uniformity", "alignment lidar"}
    rank = next(line for line in found.lines if line.name == "effective rank")
    assert list(rank.values) == sorted(rank.values, reverse=True)
    assert rank.agreement.pairs == 5


def test_what_cannot_be_ordered_is_said():
    with pytest.raises(ValueError, match=r"3 models have too few orders .* give 4 or more"):
        rank_report(models(3), data=DATA)
    with pytest.raises(ValueError, match="no linear accuracy on fake: give labeled data"):
        rank_report(models(4), data=DATA, protocols=("knn",), device="cpu")
