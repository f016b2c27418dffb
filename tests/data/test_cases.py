import numpy as np
import pytest
import torch
from PIL import Image

from unlabeled.data.cases import CaseFolder, Photographed
from unlabeled.data.digits import Digits
from unlabeled.data.stream import Loader, Stream


def fill(root, counts, *, side=20):
    for case, count in counts.items():
        for number in range(count):
            path = root / case / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            shade = np.full((side, side, 3), 40 * number + len(case), dtype=np.uint8)
            Image.fromarray(shade).save(path)
    return CaseFolder(str(root), image_size=16)


def test_a_sample_is_a_case_with_all_its_photos(tmp_path):
    counts = {"train/a": 1, "train/bb": 3, "train/ccc": 2, "test/dddd": 2}
    source = fill(tmp_path, counts)
    samples = source.split("train")
    assert [source.size(split) for split in ("train", "test")] == [3, 1]
    batch = samples.__getitems__([1, 0, 2])
    assert batch["index"].tolist() == [1, 0, 2]
    assert [len(case) for case in batch["instances"]] == [3, 1, 2]
    assert batch["views"][0].shape == (3, 3, 20, 20)
    for row, (case, name) in enumerate(zip(batch["instances"], ("bb", "a", "ccc"), strict=True)):
        assert torch.equal(case[0], batch["views"][0][row])
        length = len(f"train/{name}")
        assert [int(photo[0, 0, 0]) for photo in case] == [
            40 * number + length for number in range(len(case))
        ]
    assert source.classes is None
    assert "label" not in batch


def test_class_folders_above_the_cases_are_labels(tmp_path):
    counts = {f"{split}/{kind}/{case}": 2 for split in ("train", "test")
              for kind in ("ill", "well") for case in "xy"}  # fmt: skip
    source = fill(tmp_path, counts)
    assert source.classes == ("ill", "well")
    assert source.split("train").__getitems__([0, 1, 2, 3])["label"].tolist() == [0, 0, 1, 1]
    assert source.size("train") == source.size("test") == 4


def test_without_files_there_is_a_spec_and_a_remedy(tmp_path):
    source = CaseFolder(str(tmp_path / "none"))
    assert source.spec().size == 224
    with pytest.raises(FileNotFoundError, match=r"give as data\.root a folder with train/CASE/"):
        source.split("train")
    with pytest.raises(ValueError, match="val"):
        source.split("val")


def test_photographs_are_facts_of_the_data():
    source = Photographed(Digits(), most=4)
    plain = Digits().split("train").__getitems__(list(range(200)))
    batch = source.split("train").__getitems__(list(range(200)))
    counts = torch.tensor([len(case) for case in batch["instances"]])
    assert counts.unique().tolist() == [1, 2, 3, 4]
    assert counts.bincount()[1:].min() > 30
    assert torch.equal(batch["label"], plain["label"])
    again = source.split("train").__getitems__([7, 150])
    for row, place in enumerate((7, 150)):
        assert torch.equal(again["instances"][row], batch["instances"][place])
        assert torch.equal(batch["views"][0][place], batch["instances"][place][0])
    several = [case for case in batch["instances"] if len(case) > 1]
    assert all(not torch.equal(case[0], case[1]) for case in several)


def test_photographs_show_their_own_object():
    batch = Photographed(Digits(), most=2).split("test").__getitems__(list(range(300)))
    plain = Digits().split("test").__getitems__(list(range(300)))["views"][0].float().flatten(1)
    plain = torch.nn.functional.normalize(plain - plain.mean(1, keepdim=True), dim=1)
    photos = batch["views"][0].float().flatten(1)
    photos = torch.nn.functional.normalize(photos - photos.mean(1, keepdim=True), dim=1)
    own = (photos * plain).sum(1).mean()
    other = (photos * plain.roll(1, 0)).sum(1).mean()
    assert own > other + 0.2


def test_a_batch_of_training_has_each_case_once():
    source = Photographed(Digits())
    stream = Stream(source.size("train"), batch_size=256, steps=3, accumulate=1, seed=0)
    for batch in Loader(source, stream):
        assert len(batch["index"].unique()) == len(batch["instances"]) == 256


def test_no_photograph_is_refused():
    with pytest.raises(ValueError, match="most is 0"):
        Photographed(Digits(), most=0)
