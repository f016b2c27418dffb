import torch

from unlabeled.data.digits import Digits
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import TwoViews
from unlabeled.views.mild import mild_augment


def test_crops_keep_at_least_the_stated_share_of_the_picture():
    data = Digits()
    raw = data.split("train").__getitems__(list(range(256)))
    small = mild_augment(scale=(0.5, 1.0), size=16)
    views = TwoViews(small, mild_augment(scale=(0.5, 1.0), size=16, solarize=1.0)).fit(data.spec())
    batch = views(raw, SampleGenerator(0, 0, raw["index"]))
    side = raw["views"][0].shape[-1]
    for view, box in zip(batch["views"], batch["box"], strict=True):
        assert view.shape == (256, 1, 16, 16)
        assert torch.isfinite(view).all()
        share = box[:, 2] * box[:, 3] / side**2
        assert share.min() >= 0.5 - 1.5 / side  # boxes have whole pixels
        assert share.min() < 0.7
    plain, inverted = (view.mean() for view in batch["views"])
    assert inverted < plain - 0.1  # solarizing turns bright strokes dark
