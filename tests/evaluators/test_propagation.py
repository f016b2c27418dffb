import pytest
import torch

from unlabeled.data.clips import Clips
from unlabeled.data.digits import Digits
from unlabeled.data.videos import ClipSamples
from unlabeled.evaluators.propagation import Propagation

CLIPS = Clips(frames=4, side=32, train=2, test=5)


class Painted(Clips):
    """The same things, each of one color, so that colors follow them."""

    def split(self, name):
        masks = self.masks(name)
        color = torch.tensor([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=torch.uint8)
        films = color[masks.long()].permute(0, 1, 4, 2, 3)
        return ClipSamples(len(films), lambda place: films[place])


def colors(frames):
    return frames * 0.225 + 0.45 + 0.01


def test_features_that_name_the_things_follow_them():
    data = Painted(frames=4, side=32, train=2, test=5)
    found = {each.metric: each.value for each in Propagation(top=1).judge(colors, data)}
    floor = {each.metric: each.value for each in Propagation().plain(data)}
    assert found["j"] > 97
    assert found["f"] > 97
    assert floor["j"] < 60
    assert found["jf"] == pytest.approx((found["j"] + found["f"]) / 2)


def test_the_first_and_last_frames_and_things_not_shown_are_left_out():
    masks = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    masks[0, :, :2] = 1
    masks[0, 1:, 3] = 2  # comes later: nobody could have followed it

    class Known(Clips):
        def masks(self, split):
            return masks

    found = {each.metric: each.value for each in Propagation().plain(Known())}
    assert found["j"] == 100


def test_a_film_shows_what_was_followed():
    (figure,) = Propagation().figures(colors, CLIPS)
    assert figure.frames.shape[:2] == (4, 3)
    assert figure.frames.min() >= 0
    assert figure.frames.max() <= 1


def test_data_without_masks_are_refused():
    with pytest.raises(ValueError, match="has no masks"):
        Propagation().plain(Digits())
