import pytest
import torch

from unlabeled.data import open_data
from unlabeled.data.xrays import FINDINGS, PATIENT, PICTURE, XRays, draw
from unlabeled.recipe import describe, rebuild
from unlabeled.views.generator import SampleGenerator

SOURCE = XRays(300, 200)


def everything(samples):
    return samples.__getitems__(list(range(len(samples))))


def test_a_sample_is_a_patient_with_all_images():
    batch = everything(SOURCE.split("train"))
    counts = torch.tensor([len(each) for each in batch["instances"]])
    assert set(counts.tolist()) == {1, 2, 3, 4}
    assert batch["views"][0].shape == (300, 1, 32, 32)
    assert torch.equal(batch["views"][0][7], batch["instances"][7][0])
    assert "label" not in batch


def test_pictures_are_the_images_of_the_patients_one_by_one():
    patients, pictures = everything(SOURCE.split("test")), SOURCE.plain(SOURCE.spec())
    batch = everything(pictures.split("test"))
    assert torch.equal(torch.cat(patients["instances"]), batch["views"][0])
    assert torch.equal(batch["tags"], patients["tags"][batch["case"]])
    assert pictures.size("test") == len(batch["case"]) > 200


def test_findings_are_independent_and_some_are_unknown_in_training_only():
    train, test = (everything(XRays(4000, 4000).split(name))["tags"] for name in ("train", "test"))
    assert train.isnan().float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert set(test.unique().tolist()) == {0.0, 1.0}
    assert test.mean(0).tolist() == pytest.approx([0.3] * 5, abs=0.04)
    assert (torch.corrcoef(test.T) - torch.eye(5)).abs().max() < 0.06


def test_patients_follow_from_their_place_alone_and_splits_differ():
    few, many = everything(XRays(40).split("train")), everything(XRays(600).split("train"))
    assert torch.equal(few["views"][0], many["views"][0][:40])
    assert not torch.equal(few["views"][0][:40], everything(SOURCE.split("test"))["views"][0][:40])


@pytest.mark.parametrize("finding", range(5))
def test_each_finding_changes_the_picture_where_it_should(finding):
    index = torch.arange(64)
    anatomy = SampleGenerator(PATIENT, 0, index).uniform(15)
    none = torch.zeros(64, len(FINDINGS))
    with_it = none.clone()
    with_it[:, finding] = 1
    one, two = (
        draw(anatomy, there, SampleGenerator(PICTURE, 0, index), side=32)
        for there in (none, with_it)
    )
    assert (two - one).mean() > 0.001  # all findings make a chest denser
    assert ((two - one).abs().flatten(1).amax(1) > 0.03).all()


def test_it_has_a_name_a_text_and_limits():
    assert open_data("xrays") == XRays()
    assert rebuild(describe(SOURCE)) == SOURCE
    pixels = everything(SOURCE.split("train"))["views"][0] / 255
    assert pixels.mean().item() == pytest.approx(SOURCE.spec().mean[0], abs=0.02)
    assert pixels.std().item() == pytest.approx(SOURCE.spec().std[0], abs=0.02)
    with pytest.raises(ValueError, match=r"no split 'dev'|has no.*dev"):
        SOURCE.split("dev")
    with pytest.raises(ValueError, match="give at least"):
        XRays(0)
