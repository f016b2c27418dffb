from dataclasses import dataclass

import pytest
import torch

from tests.evaluators.fakes import FakeEncoder
from unlabeled.data.digits import Digits
from unlabeled.data.images import ArraySamples, WrappedSource
from unlabeled.data.source import ImageSpec
from unlabeled.encoders.encoder import Encoder
from unlabeled.evaluators.corrupted import hold
from unlabeled.evaluators.corruptions import (
    Corruptions,
    _floor,
    corruption_quotients,
    relative_quotient,
)
from unlabeled.evaluators.linear import Linear
from unlabeled.features import embed
from unlabeled.ops.corruptions import CORRUPTIONS, corrupt
from unlabeled.views.generator import SampleGenerator

FEW = ("gaussian_noise", "contrast")
QUICK = Linear(strengths=(1e-2, 1.0))
CPU = torch.device("cpu")


class Pixels(Encoder):
    """The input itself, as an encoder."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        self.spec, self.dim = spec, spec.channels * spec.size**2

    def local(self, x):
        return x.flatten(2).mT

    def pool(self, local):
        return local.mT.flatten(1)


class Even(Encoder):
    """The pixels less their mean, divided by their deviation: contrast and brightness are gone."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        self.spec, self.dim = spec, spec.channels * spec.size**2

    def local(self, x):
        return x.flatten(2).mT

    def pool(self, local):
        x = local.mT.flatten(1)
        return (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)


@dataclass(frozen=True)
class Tinted(WrappedSource):
    """Three channels."""

    @property
    def name(self):
        return "tinted"

    def spec(self):
        return ImageSpec(channels=3, size=16, mean=(0.3,) * 3, std=(0.4,) * 3)

    def split(self, name):
        samples = self.source.split(name)
        return ArraySamples(samples.images.expand(-1, 3, -1, -1).contiguous(), label=samples.label)


def judge(**settings):
    settings = {"names": FEW, "severities": (1, 5), "tests": 200, "rows": 300, **settings}
    return Corruptions(probe=QUICK, **settings)


def values(measures):
    return {each.metric: each.value for each in measures}


def test_the_quotients_by_hand():
    # two corruptions in two severities, four images
    wrong = torch.tensor([[[1, 0, 0, 0], [1, 1, 0, 0]], [[0, 0, 0, 0], [1, 0, 0, 0]]]).double()
    floor = torch.tensor([[[1, 1, 0, 0], [1, 1, 1, 1]], [[1, 0, 0, 0], [0, 0, 0, 1]]]).double()
    none, one = torch.zeros(4).double(), torch.tensor([1.0, 0, 0, 0]).double()
    # errors 1/4, 2/4 of 2/4, 4/4, and 0, 1/4 of 1/4, 1/4
    assert corruption_quotients(wrong, floor).mean(1).tolist() == [0.5, 0.5]
    assert corruption_quotients(wrong, floor)[0].tolist() == [2 / 1.5, 1 / 1.5, 0, 0]
    # (1 + 2 + 0 + 1) / 4 less 4 x 0, of (2 + 4 + 1 + 1) / 4 less 4 x 1/4
    assert relative_quotient(wrong, none, floor, one).mean().item() == pytest.approx(1.0)
    assert relative_quotient(wrong, one, floor, one).mean().item() == pytest.approx(0.0)
    assert relative_quotient(floor, one, floor, one).mean().item() == pytest.approx(1.0)
    assert corruption_quotients(wrong, torch.zeros(2, 2, 4)) is None
    assert relative_quotient(wrong, none, wrong, one) is None


def test_it_is_the_probe_on_clean_train_and_on_each_corruption_of_test():
    data, own = Digits(), judge(names=("motion_blur", "gaussian_noise"), tests=10_000)
    found = {each.metric: each for each in own.plain(data)}
    train = embed(data.raw, data, split="train")
    test = data.split("test")
    images, spec = test.images.float() / 255, data.spec()
    # all of train: a part of 300 rows is stratified
    whole = judge(names=("motion_blur", "gaussian_noise"), tests=10_000, rows=10**6)
    probe = QUICK.fitted(train.x, train.label, classes=10)
    expected = []
    for name in ("motion_blur", "gaussian_noise"):
        for severity in (1, 5):
            draws = SampleGenerator(0, CORRUPTIONS.index(name), torch.arange(len(test)))
            x = corrupt(images, name, severity=severity, generator=draws)
            x = (x - spec.mean[0]) / spec.std[0]
            wrong = probe.predict(x.flatten(1)) != test.label
            expected.append(100 * wrong.double().mean().item())
    measured = {each.metric: each for each in whole.plain(data)}
    errors = measured["corruption_error"].details["errors"]
    assert list(errors) == ["motion_blur", "gaussian_noise"]
    flat = [value for each in errors.values() for value in each]
    assert flat == pytest.approx(expected, abs=0.3)  # one of 450 images
    assert measured["corruption_error"].value == pytest.approx(sum(expected) / 4, abs=0.2)
    clean = probe.predict(((images - spec.mean[0]) / spec.std[0]).flatten(1)) != test.label
    assert measured["clean_error"].value == pytest.approx(100 * clean.double().mean().item())
    assert (found["mce"].train, found["mce"].test) == (300, 450)
    assert (measured["mce"].train, measured["mce"].test) == (1347, 450)
    for each in measured.values():  # an image's own part
        assert 100 * each.hits.mean().item() == pytest.approx(each.value)


def test_raw_pixels_are_the_measure_also_as_an_encoder():
    data = Digits()
    floor = values(judge().plain(data))
    assert (floor["mce"], floor["relative_mce"]) == pytest.approx((100.0, 100.0))
    assert floor["corruption_error"] > floor["clean_error"] > 0
    assert values(judge().judge(Pixels(data.spec()), data)) == pytest.approx(floor)


def test_features_without_contrast_do_not_suffer_from_its_loss():
    data, only = Digits(), judge(names=("contrast",))
    found = {each.metric: each for each in only.judge(Even(data.spec()), data)}
    floor = values(only.plain(data))
    assert floor["corruption_error"] > floor["clean_error"] + 20
    assert found["corruption_error"].value < found["clean_error"].value + 5
    assert found["relative_mce"].value < 20
    assert found["mce"].value < 50
    assert not any(each.higher_is_better for each in found.values())
    assert found["mce"].details["ce"] == {"contrast": found["mce"].value}


def test_an_encoder_keeps_its_mode_and_the_same_call_gives_the_same():
    data = Digits()
    encoder = FakeEncoder(data.spec()).train()
    one = judge()(encoder, data)
    assert encoder.training
    assert judge()(encoder, data) == one
    assert set(one) == {f"corruptions/{each}" for each in
                        ("clean_error", "corruption_error", "mce", "relative_mce")}  # fmt: skip


def test_a_held_image_is_corrupted_the_same_whatever_else_is_held():
    data = Digits()
    few, many = (
        hold(data, data.spec(), most=count, seed=3, device=CPU).under("fog", 4)
        for count in (20, 200)
    )
    shared = torch.isin(many.places, few.places).nonzero().flatten()
    assert len(shared) == 20
    one = few.pixels(few.samples.__getitems__(list(range(20))))
    two = many.pixels(many.samples.__getitems__(shared.tolist()))
    assert torch.equal(one, two)
    whole = data.split("test").images[few.places]
    assert torch.equal(few.samples.images, whole)  # 8 bits, there and back
    assert torch.equal(few.samples.label, data.split("test").label[few.places])


def test_colors_only_where_there_are_some_and_figures():
    gray, tinted = Digits(), Tinted(Digits())
    both = judge(names=("saturate", "contrast"))
    for data, names in ((gray, ["contrast"]), (tinted, ["saturate", "contrast"])):
        error = values_of_errors(both.plain(data))
        assert list(error) == names
        (figure,) = both.figures(FakeEncoder(data.spec()), data)
        channels = data.spec().channels
        assert figure.frames.shape == (1, channels, 16 * len(names), 16 * 3)
        assert "severities 1, 5 of" in figure.title
    with pytest.raises(ValueError, match="no colors for saturate"):
        judge(names=("saturate",)).plain(gray)


def values_of_errors(measures):
    return next(each.details["errors"] for each in measures if "errors" in each.details)


def test_the_floor_is_read_once():
    data, own = Digits(), judge(seed=11)
    before = _floor.cache_info().misses
    own.plain(data)
    own.judge(FakeEncoder(data.spec()), data)
    own.plain(data)
    assert _floor.cache_info().misses == before + 1


@dataclass(frozen=True)
class Nameless(WrappedSource):
    """No labels."""

    @property
    def name(self):
        return "nameless"

    def split(self, name):
        return ArraySamples(self.source.split(name).images)


def test_bad_settings_and_data_are_refused_in_a_line():
    for settings, message in (
        ({"names": ("frost",)}, "names are .'frost',.: use some of gaussian_noise"),
        ({"names": ()}, "names are"),
        ({"severities": (0,)}, "severities are"),
        ({"tests": 0}, "tests is 0"),
        ({"rows": 0}, "rows is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            judge(**settings)
    with pytest.raises(ValueError, match="nameless has no labels"):
        judge().plain(Nameless(Digits()))
    with pytest.raises(ValueError, match="holds no images"):
        hold(Digits(), "a spec of words", most=1, seed=0, device=CPU)
