import math

import pytest
import torch

from tests.evaluators.fakes import FakeData
from unlabeled.data.digits import Digits
from unlabeled.data.gray import Gray, GrayAnnotated
from unlabeled.data.shapes import Shapes
from unlabeled.encoders.small import small_resnet
from unlabeled.evaluators.detection import Detection
from unlabeled.evaluators.episodes import Episodes
from unlabeled.evaluators.knn import Knn
from unlabeled.evaluators.segmentation import LinearSegmentation
from unlabeled.evaluators.transfer import Transfer
from unlabeled.features import embed
from unlabeled.studies.ssl_transfer import (
    LABELS,
    TASKS,
    logit,
    mean_ranks,
    paper,
    pearson,
    report,
    small,
)

SHAPES = Shapes(image_size=32, train=60, test=20)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return small_resnet(FakeData().spec(), widths=(4, 6, 8)).eval()


def test_a_target_is_judged_in_the_encoders_own_input(encoder):
    target, judge = Digits(), Transfer(Digits(), Knn(k=3))
    assert judge.name == "digits_knn"
    assert judge.protocol == "digits_knn/instdisc-v1"
    pair = [embed(encoder, target, split=split, spec=encoder.spec) for split in ("train", "test")]
    (found, *_) = judge.judge(encoder, FakeData())
    assert found.value == Knn(k=3).score(*pair)[0].value
    assert judge.plain(FakeData())[0].value > 90


def test_tasks_get_what_they_ask_for(encoder):
    judge = Transfer(GrayAnnotated(SHAPES), LinearSegmentation(images=40, epochs=2))
    (found,) = judge.judge(encoder, FakeData())
    assert 0 < found.value < 100
    assert judge.plain(FakeData())[0].metric == "miou"
    with pytest.raises(ValueError, match="shapes has 3 channels, the encoder takes 1"):
        Transfer(SHAPES, Episodes()).judge(encoder, FakeData())


def test_detectors_take_gray_images(encoder):
    pytest.importorskip("pycocotools")
    judge = Transfer(GrayAnnotated(SHAPES), Detection(images=20, steps=2, batch=4, tests=6))
    assert [each.metric for each in judge.judge(encoder, FakeData())] == ["ap", "ap50"]


def test_gray_images_are_the_luma_and_keep_labels():
    gray = Gray(SHAPES)
    own, colored = gray.split("test"), SHAPES.split("test")
    expected = torch.einsum(
        "c,bchw->bhw", torch.tensor([0.2989, 0.587, 0.114]) / 0.9999, colored.images.float()
    )
    assert (own.images[:, 0].float() - expected).abs().max() <= 0.51
    assert torch.equal(own.label, colored.label)
    spec = gray.spec()
    assert spec.channels == 1
    values = gray.split("train").images.float() / 255
    assert spec.mean[0] == pytest.approx(float(values.mean()), abs=1e-4)
    assert torch.equal(
        GrayAnnotated(SHAPES).annotations("test").maps, SHAPES.annotations("test").maps
    )
    with pytest.raises(ValueError, match="colors have three"):
        Gray(Digits()).split("train")


def test_statistics_by_hand():
    assert logit(50) == 0
    assert logit(100) == pytest.approx(math.log(999))
    assert pearson([1, 2, 3], [2, 4, 6]) == pytest.approx(1)
    assert pearson([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert math.isnan(pearson([1, 1], [1, 2]))
    ranks = mean_ranks({"t": {"a": 3, "b": 2, "c": 2}, "u": {"a": 1, "b": 3, "c": 2}}, "abc")
    assert ranks == {"a": 2.0, "b": 1.75, "c": 2.25}


def test_the_report_holds_each_claim_against_its_figures():
    names = (*small().recipes, "random", "raw")
    order = {name: [80.0 - 6 * n] for n, name in enumerate(names)}
    scores = {"linear": order, **dict.fromkeys(TASKS, order)}
    lines = report(scores)
    assert lines[0].startswith("mean rank over the tasks: simclr 1.0, moco_v2 2.0")
    assert lines[1].startswith(f"shown: the best model without {LABELS}")
    assert lines[2].startswith("not shown: no single method")
    assert all("Spearman +1.00" in line for line in lines[3:10])
    assert all(line.startswith("shown: random weights are last") for line in lines[10:])
    flat = {name: [50.0] for name in names}
    lines = report({"linear": order, **dict.fromkeys(TASKS, flat)})
    assert lines[1].startswith("not shown")
    assert lines[-1].startswith("not shown")


def test_the_study_judges_every_kind_of_task():
    judges = [judge for judge in small().evaluators if isinstance(judge, Transfer)]
    names = {judge.name for judge in judges}
    assert {task.partition(" ")[0] for task in TASKS} == names
    assert len(small().recipes) == 6
    assert any(isinstance(judge, Transfer) for judge in paper().evaluators)
