import math
from dataclasses import replace

import pytest
import torch

from tests.evaluators.fakes import FakeEncoder
from unlabeled.data.blobs import blobs
from unlabeled.data.class_part import ClassPart
from unlabeled.data.digits import Digits
from unlabeled.data.source import ImageSpec
from unlabeled.evaluators.outliers import Outliers
from unlabeled.methods.image.simclr import SimCLR
from unlabeled.methods.image.ssd_outlier import LabeledContrast, plain_head, small
from unlabeled.views.mild import mild_augment

IN = ClassPart(Digits(), keep=(0, 1, 2, 3, 4))
JUDGE = Outliers(augment=mild_augment())


class Pixels(FakeEncoder):
    """The input itself."""

    def forward(self, x):
        return x.flatten(1)


def scores(judge, data=IN, predict=None):
    return {m.metric: m.value for m in judge.judge(predict or Pixels(data.spec()), data)}


def test_training_sees_the_kept_classes_alone_and_the_outliers_are_the_others():
    assert set(IN.split("train").label.tolist()) == {0, 1, 2, 3, 4}
    assert set(IN.split("test").label.tolist()) == {0, 1, 2, 3, 4}
    assert set(IN.split("outliers").label.tolist()) == {5, 6, 7, 8, 9}
    assert IN.size("test") + IN.size("outliers") == Digits().size("test")


def test_bad_classes_are_named():
    with pytest.raises(ValueError, match="keep is empty"):
        ClassPart(Digits(), keep=())
    with pytest.raises(ValueError, match="no class 11"):
        ClassPart(Digits(), keep=(0, 11)).split("train")


def test_ssd_is_simclr_and_reads_no_labels():
    recipe = small()
    assert recipe.method.func is SimCLR
    assert recipe.method.keywords["temperature"] == 0.5
    assert not any(isinstance(part, torch.nn.BatchNorm1d) for part in plain_head(8, 4))


def test_labels_of_inliers_change_no_score():
    found = scores(JUDGE)

    class Shuffled(ClassPart):
        def split(self, name):
            samples = super().split(name)
            if name == "outliers":
                return samples
            return type(samples)(samples.images, label=samples.label.flip(0))

    assert scores(JUDGE, Shuffled(Digits(), keep=IN.keep)) == found


def test_the_floor_of_raw_input_is_the_same_score_of_the_pixels():
    plain = {m.metric: m.value for m in JUDGE.plain(IN)}
    assert plain == pytest.approx(scores(JUDGE))


def test_known_outliers_are_taken_out_of_the_test_and_help():
    few = {m.metric: m for m in JUDGE.judge(Pixels(IN.spec()), IN)}
    assert few["few_auroc"].details["outliers"] == IN.size("outliers") - 5 * JUDGE.shots
    assert few["auroc"].details["outliers"] == IN.size("outliers")
    assert few["few_auroc"].value > few["auroc"].value
    assert "few_auroc" not in scores(replace(JUDGE, shots=0))
    assert not few["fpr95"].higher_is_better
    assert few["auroc"].higher_is_better


def test_several_clusters_are_another_protocol():
    three = replace(JUDGE, clusters=3, shots=0)
    assert three.protocol == "outliers/ssd-m3-k0-v1"
    assert scores(three)["auroc"] != scores(replace(JUDGE, shots=0))["auroc"]


def test_blobs_are_soft_spots_on_black():
    spec = ImageSpec(channels=3, size=28, mean=(0.5,) * 3, std=(0.5,) * 3)
    images = blobs(50, spec=spec)["views"][0]
    assert images.shape == (50, 3, 28, 28)
    lit = images[images > 0]
    assert lit.min() >= 0.75
    assert 0.1 < len(lit) / images.numel() < 0.6
    assert torch.equal(images, blobs(50, spec=spec)["views"][0])


def test_labels_pull_a_class_together(given, pair):
    """Four unit vectors in two classes at T = 1: log(e + 2) - 1 each (2 views of 2 samples)."""
    method = LabeledContrast(given(2), head=lambda width, dim: torch.nn.Identity(), temperature=1.0)
    z = torch.eye(2)
    batch = {**pair(z, z), "label": torch.tensor([0, 1])}
    assert method.loss(batch)["sup_con"].item() == pytest.approx(math.log(math.e + 2) - 1, abs=1e-6)
    one = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    batch = {**pair(one, one), "label": torch.tensor([3, 3])}
    assert method.loss(batch)["sup_con"].item() == pytest.approx(math.log(3), abs=1e-6)
