from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits

from unlabeled.data.digits import Digits


def test_every_fourth_digit_is_test_and_none_is_lost():
    data = load_digits()
    train, test = Digits().split("train"), Digits().split("test")
    assert (len(train), len(test)) == (1347, 450)
    assert test.label.tolist() == data.target[::4].tolist()
    assert sorted([*train.label.tolist(), *test.label.tolist()]) == sorted(data.target.tolist())


def test_pixels_are_scikit_learns_scaled_to_bytes():
    raw = Digits(image_size=8).split("test").images
    expected = torch.from_numpy(load_digits().images[::4] * 255 / 16).round()
    assert torch.equal(raw[:, 0].double(), expected)


def test_enlarged_digits_keep_their_ink():
    small, large = (Digits(image_size=side).split("train").images for side in (8, 16))
    assert large.shape == (1347, 1, 16, 16)
    assert large.dtype == torch.uint8
    assert large.float().mean().item() == pytest.approx(small.float().mean().item(), rel=0.01)


def test_the_spec_is_measured_and_wrong_asks_are_refused():
    spec = Digits().spec()
    assert (spec.channels, spec.size) == (1, 16)
    with pytest.raises(ValueError, match="digits has no split 'val': it has train, test"):
        Digits().split("val")
    with pytest.raises(ValueError, match="image_size is 4"):
        Digits(image_size=4)
