import pytest
import torch

from unlabeled.data.digits import Digits
from unlabeled.data.pairs import FramePairs, Motion, PairSamples
from unlabeled.evaluators.flow import FlowError


class Known(FramePairs):
    """Two pairs of 2 x 2 px."""

    name = "known"
    shape = (2, 2)

    def split(self, name):
        return PairSamples(2, lambda place: torch.zeros(2, 3, 2, 2, dtype=torch.uint8))

    def motion(self, split):
        flow = torch.zeros(2, 2, 2, 2)
        flow[0, 0] = 4.0
        flow[1, :, 0, 0] = torch.nan
        flow[1, 0, 1, 1] = 100.0
        hidden = torch.zeros(2, 2, 2, dtype=torch.bool)
        hidden[0, 0] = True
        return Motion(flow, hidden)


def test_errors_by_hand():
    """Of 7 known pixels: four of 4 px, two that stand still, one of 100 px."""
    found = {each.metric: each.value for each in FlowError().plain(Known())}
    assert found["epe"] == pytest.approx((4 * 4 + 100) / 7)
    assert found["epe_visible"] == pytest.approx((2 * 4 + 100) / 5)
    assert found["epe_occluded"] == pytest.approx(4.0)
    assert found["f1_all"] == pytest.approx(100 * 5 / 7)


def test_a_small_error_of_a_long_flow_is_not_counted():
    def nearly(pairs):
        flow = Known().motion("test").flow.nan_to_num()
        flow[1, 0, 1, 1] = 96.0  # 4 px of 100 are below 5 %
        return flow

    found = {each.metric: each.value for each in FlowError().judge(nearly, Known())}
    assert found["f1_all"] == 0
    assert found["epe"] == pytest.approx(4 / 7)


def test_a_picture_shows_truth_and_prediction():
    (figure,) = FlowError().figures(lambda pairs: torch.zeros(len(pairs), 2, 2, 2), Known())
    assert figure.frames.shape[:2] == (1, 3)
    assert figure.frames.max() <= 1


def test_data_without_flow_are_refused():
    with pytest.raises(ValueError, match="has no true flow"):
        FlowError().plain(Digits())
