from __future__ import annotations

import sys

import pytest
from PIL import Image

from tests.data.tars import levels, picture
from unlabeled.data import open_data
from unlabeled.data.huggingface import HuggingFace, _read, _store
from unlabeled.recipe import describe, rebuild

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _offline(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    for kept in (_read, _store):
        kept.cache_clear()


def part(numbers, *, labels=("cat", "dog"), **columns):
    features = {"picture": datasets.Image()}
    rows = {"picture": [{"bytes": picture(n), "path": f"{n}.png"} for n in numbers]}
    if labels:
        features["kind"] = datasets.ClassLabel(names=list(labels))
        rows["kind"] = [n % len(labels) for n in numbers]
    for name, (kind, values) in columns.items():
        features[name], rows[name] = kind, values
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


def everything(source, split="all"):
    samples = source.split(split)
    return samples.__getitems__(list(range(len(samples))))


def test_a_saved_set_is_read_by_place_with_labels(tmp_path):
    part(range(40)).save_to_disk(tmp_path / "set")
    source = open_data(f"hf:{tmp_path}/set")
    batch = source.split("all").__getitems__([39, 0, 7])
    assert levels(batch) == [39, 0, 7]
    assert batch["label"].tolist() == [1, 0, 1]
    assert batch["path"] == ["row 39/39.png", "row 0/0.png", "row 7/7.png"]
    assert source.classes == ("cat", "dog")
    assert source.name == "set"
    assert source.size("train") + source.size("test") == 40
    assert set(levels(everything(source, "train"))).isdisjoint(levels(everything(source, "test")))
    assert source.spec().channels == 3


def test_saved_splits_are_kept_and_validation_stands_in_for_test(tmp_path):
    parts = {"train": part(range(10)), "validation": part(range(10, 14))}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "a")
    source = open_data(f"hf:{tmp_path}/a")
    assert levels(everything(source, "test")) == [10, 11, 12, 13]
    assert source.size("train") == 10
    parts["test"] = part(range(14, 16))
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "b")
    sizes = {name: open_data(f"hf:{tmp_path}/b").size(name) for name in ("train", "val", "test")}
    assert sizes == {"train": 10, "val": 4, "test": 2}


def test_a_test_split_that_hides_its_labels_is_not_taken_for_one(tmp_path):
    hidden = part(range(5)).remove_columns("kind").add_column("kind", [-1] * 5)
    hidden = hidden.cast_column("kind", datasets.ClassLabel(names=["cat", "dog"]))
    parts = {"train": part(range(10)), "validation": part(range(10, 14)), "test": hidden}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "a")
    assert levels(everything(open_data(f"hf:{tmp_path}/a"), "test")) == [10, 11, 12, 13]


def test_a_train_split_with_some_labels_has_none(tmp_path, caplog):
    some = part(range(6)).remove_columns("kind").add_column("kind", [0, 1, -1, 0, 1, -1])
    some = some.cast_column("kind", datasets.ClassLabel(names=["cat", "dog"]))
    some.save_to_disk(tmp_path / "a")
    source = open_data(f"hf:{tmp_path}/a")
    assert source.classes is None
    assert "label" not in everything(source)
    assert "2 of 6 training rows have none" in caplog.text


def test_parquet_files_and_folders_are_read_offline(tmp_path):
    (tmp_path / "set").mkdir()
    part(range(8)).to_parquet(tmp_path / "set/train-00000-of-00001.parquet")
    part(range(8, 12)).to_parquet(tmp_path / "set/test-00000-of-00001.parquet")
    source = open_data(f"hf:{tmp_path}/set")
    assert levels(everything(source, "train")) == list(range(8))
    assert levels(everything(source, "test")) == list(range(8, 12))
    one = open_data(f"hf:{tmp_path}/set/train-00000-of-00001.parquet")
    assert one.size("all") == 8


def test_without_labels_all_is_train_and_modes_are_made_alike(tmp_path):
    images = [Image.new(mode, (16, 12)) for mode in ("RGB", "L", "RGBA", "P")]
    rows = {"image": images}
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "set")
    source = open_data(f"hf:{tmp_path}/set")
    assert source.size("train") == 4
    batch = everything(source)
    assert batch["views"][0].shape == (4, 3, 12, 16)
    assert "label" not in batch
    with pytest.raises(ValueError, match="no labels, so nothing is set apart"):
        source.split("test")


def test_columns_are_found_or_named(tmp_path):
    masks = [{"bytes": picture(n + 100), "path": None} for n in range(4)]
    ages = datasets.Value("int64"), [30, 7, 30, 7]
    extra = {"mask": (datasets.Image(), masks), "age": ages}
    part(range(4), labels=(), **extra).save_to_disk(tmp_path / "set")
    path = str(tmp_path / "set")
    with pytest.raises(ValueError, match=r"2 columns of images \(picture, mask\).*data\.column="):
        HuggingFace(path).size("train")
    source = HuggingFace(path, column="mask", label="age")
    assert source.classes == ("7", "30")
    batch = everything(source)
    assert levels(batch) == [100, 101, 102, 103]
    assert batch["label"].tolist() == [1, 0, 1, 0]
    with pytest.raises(ValueError, match=r"no column 'x': it has picture, mask, age"):
        HuggingFace(path, column="x").size("train")
    datasets.Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(tmp_path / "text")
    with pytest.raises(ValueError, match=r"no column of type Image \(text\)"):
        HuggingFace(str(tmp_path / "text")).size("train")


def test_a_bad_row_is_named_and_replaced(tmp_path, caplog):
    rows = {"image": [{"bytes": picture(n) if n != 3 else b"bad", "path": None} for n in range(40)]}
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "set")
    assert levels(everything(open_data(f"hf:{tmp_path}/set")))[2:5] == [2, 4, 4]
    assert "row 3 cannot be read" in caplog.text


def test_a_shuffled_and_selected_set_keeps_pairs(tmp_path):
    part(range(30)).shuffle(seed=0).select(range(20)).save_to_disk(tmp_path / "set")
    batch = everything(open_data(f"hf:{tmp_path}/set"))
    assert batch["label"].tolist() == [level % 2 for level in levels(batch)]


def test_what_is_not_there_is_told_without_the_network(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone does not exist"):
        open_data(f"hf:{tmp_path}/gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="is no saved set: give a folder of save_to_disk"):
        open_data(f"hf:{tmp_path}/empty").size("train")
    source = open_data("hf:nobody/nothing:small")
    assert source == HuggingFace("nobody/nothing", config="small")
    with pytest.raises(OSError, match="hf:nobody/nothing cannot be had"):
        source.size("train")


def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setattr("unlabeled.data.huggingface.find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r"needs the datasets library: pip install 'unlabeled\[hf"
    ):
        open_data("hf:cifar10")


def test_a_recipe_stores_and_rebuilds_it():
    source = HuggingFace("someone/set", config="small", label="kind")
    assert rebuild(describe(source)) == source
    assert source.at(64).image_size == 64
