from dataclasses import replace

import pytest
import torch

from unlabeled.data.digits import Digits
from unlabeled.evaluators.fid import Fid, Judge, frechet, judge_network, pictures, sheet


class Given(torch.nn.Module):
    """Pixels as features."""

    def forward(self, x):
        return x.flatten(1)


def gaussian(mean, deviation, *, count=20_000, seed=0):
    draws = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return mean + deviation * draws


def test_the_distance_of_two_gaussians_is_the_closed_form():
    """Isotropic in d = 64 dimensions: ``d (m1 - m2)^2 + d (s1 - s2)^2``."""
    judge = Judge(Given(), None)
    found = frechet(judge, gaussian(0.0, 1.0), gaussian(0.5, 2.0, seed=1))
    assert found == pytest.approx(64 * 0.25 + 64 * 1.0, rel=0.02)
    assert abs(frechet(judge, gaussian(0.0, 1.0), gaussian(0.0, 1.0))) < 1e-3


class Player:
    def __init__(self, images):
        self.images = images

    def __call__(self, count, draws):
        places = torch.randint(len(self.images), (count,), generator=draws)
        return self.images[places]


def test_real_images_are_nearer_than_noise_and_one_image():
    data, judge = Digits(), Fid(images=300)
    train, label = pictures(data, "train", 1000, 16)
    assert label is not None
    players = {"real": train, "one": train[:1], "noise": torch.rand(500, 1, 16, 16)}
    values = {name: judge.judge(Player(images), data)[0] for name, images in players.items()}
    gauss = judge.plain(data)[0]
    assert values["real"].value < 0.2 * min(gauss.value, values["one"].value, values["noise"].value)
    assert values["real"].details["features"] == "classifier of the data's classes"
    assert values["real"].value == pytest.approx(values["real"].details["real"], rel=1.0)
    assert not gauss.higher_is_better
    assert judge.judge(Player(train), data)[0].value == values["real"].value  # draws are fixed


def test_the_judge_knows_the_classes_and_without_labels_says_that_it_does_not(monkeypatch):
    judge = judge_network(Digits(), 16)
    pixels, label = pictures(Digits(), "test", 300, 16)
    assert (judge.head(judge(pixels)).argmax(1) == label).float().mean() > 0.8
    monkeypatch.setattr(Digits, "classes", None)
    assert judge_network(replace(Digits(), image_size=12), 12).kind == "random weights"


def test_a_sheet_has_rows_of_sixteen():
    images = torch.arange(32.0).view(32, 1, 1, 1).expand(32, 1, 28, 28) / 32
    found = sheet(images)
    assert found.shape == (1, 1, 2 * 56, 16 * 56)
    assert found[0, 0, 60, 60] == 17 / 32
    shown = Fid(images=100).figures(Player(torch.rand(9, 1, 16, 16)), Digits())
    assert [figure.title for figure in shown] == ["Made images", "Real images"]
    assert all(figure.frames.ndim == 4 for figure in shown)


def test_all_images_are_compared_at_one_side():
    data = Digits()
    train, _ = pictures(data, "train", 1000, 16)
    half = Fid(images=200, side=8)
    whole = half.judge(Player(train), data)[0]
    small = half.judge(Player(torch.nn.functional.avg_pool2d(train, 2)), data)[0]
    assert whole.value == pytest.approx(small.value, rel=0.5)
    assert max(whole.value, small.value) < 0.7 * half.plain(data)[0].value
