import torch

from unlabeled.data.digits import Digits
from unlabeled.evaluators.reconstructions import Reconstructions


def same(pixels):
    return pixels


def forgetful(pixels):
    return pixels.roll(5, 0)


def test_what_is_kept_and_what_is_forgotten():
    judge, data = Reconstructions(images=300), Digits()
    kept = {each.metric: each.value for each in judge.judge(same, data)}
    lost = {each.metric: each.value for each in judge.judge(forgetful, data)}
    assert kept["distance"] == 0
    assert kept["same_class"] > 80
    assert 85 < lost["distance"] < 115
    assert lost["same_class"] < 25
    assert judge.plain(data) == []


def test_each_image_stands_above_its_reconstruction():
    (figure,) = Reconstructions().figures(lambda x: 1 - x, Digits())
    rows = figure.frames[0, 0].unflatten(0, (6, -1))
    torch.testing.assert_close(rows[1::2], 1 - rows[::2])
