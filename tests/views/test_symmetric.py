import torch

from tests.tiny import ColoredDigits
from unlabeled.data.digits import Digits
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import Augment, OneView
from unlabeled.views.symmetric import Symmetric


def test_values_are_two_pixels_less_one():
    data = Digits()
    plain = Augment(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    views = Symmetric(OneView(plain)).fit(data.spec())
    raw = data.split("train").__getitems__(list(range(8)))
    (x,) = views(raw, SampleGenerator(0, 0, raw["index"]))["views"]
    assert views.spec.mean == views.spec.std == (0.5,)
    torch.testing.assert_close(x, raw["views"][0] / 127.5 - 1, rtol=0, atol=1e-5)


def test_the_size_is_that_of_the_views():
    spec = Symmetric(OneView(Augment(size=12))).fit(ColoredDigits().spec()).spec
    assert (spec.size, spec.mean) == (12, (0.5, 0.5, 0.5))
