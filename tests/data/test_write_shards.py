from __future__ import annotations

import json
import os
import tarfile

import numpy as np
import pytest

from tests.data.tars import levels, picture
from unlabeled.data import open_data
from unlabeled.data import write_shards as module
from unlabeled.data.digits import Digits
from unlabeled.data.folder import ImageFolder
from unlabeled.data.shardindex import parse_index, write_index
from unlabeled.data.shards import Shards
from unlabeled.data.write_shards import write_shards


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNLABELED_DATA", str(tmp_path / "cache"))


@pytest.fixture
def photos(tmp_path):
    for name, first in (("cats", 0), ("dogs", 100)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(25):
            path = tmp_path / f"photos/{name}/{number} ü.png"
            path.write_bytes(picture(first + number))
    return ImageFolder(str(tmp_path / "photos"))


def everything(source, split):
    samples = source.split(split)
    batch = samples.__getitems__(list(range(len(samples))))
    return dict(zip(levels(batch), batch["label"].tolist(), strict=True))


def test_shards_hold_the_same_files_splits_and_classes(tmp_path, photos):
    listing = write_shards(photos, tmp_path / "out", shard_size=8)
    shards = open_data(str(tmp_path / "out"))
    assert isinstance(shards, Shards)
    assert shards.classes == photos.classes == listing.classes
    for split in ("train", "test", "all"):
        assert everything(shards, split) == everything(photos, split)
    assert listing.shards[0].samples == 8
    with tarfile.open(tmp_path / "out/train-000000.tar") as tar:
        names = tar.getnames()[:3]
        facts = json.load(tar.extractfile(names[2]))
        image = tar.extractfile(names[0]).read()
    assert names == ["00000000.png", "00000000.cls", "00000000.json"]
    assert (tmp_path / "photos" / facts["path"]).read_bytes() == image


def test_the_index_spares_reading_the_shards(tmp_path, photos, monkeypatch):
    write_shards(photos, tmp_path / "out", shard_size=8)
    monkeypatch.setattr("unlabeled.data.shardindex.contents", None)
    assert Shards(str(tmp_path / "out")).size("all") == 50


def test_an_index_of_other_files_is_not_believed(tmp_path, photos):
    write_shards(photos, tmp_path / "out", shard_size=8)
    os.replace(tmp_path / "out/test-000000.tar", tmp_path / "out/train-000000.tar")
    source = Shards(str(tmp_path / "out"))
    assert source.size("train") == len(everything(source, "train")) > 0


def test_indexing_again_keeps_the_names_of_classes(tmp_path, photos):
    write_shards(photos, tmp_path / "out", shard_size=8)
    before = (tmp_path / "out/index.json").read_text()
    _, listing = write_index(str(tmp_path / "out"))
    assert listing.classes == ("cats", "dogs")
    assert parse_index(before, source="x").classes == listing.classes
    assert Shards(str(tmp_path / "out")).classes == ("cats", "dogs")


def test_classes_named_by_numbers_keep_their_places(tmp_path):
    for name in ("1", "2"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            (tmp_path / f"photos/{name}/{number}.png").write_bytes(picture(int(name)))
    write_shards(ImageFolder(str(tmp_path / "photos")), tmp_path / "out")
    assert everything(Shards(str(tmp_path / "out")), "all") == {1: 0, 2: 1}


def test_a_shard_is_a_sample_of_all_classes(tmp_path, photos):
    write_shards(photos, tmp_path / "out", shard_size=10)
    labels = everything(Shards(str(tmp_path / "out/train-000000.tar")), "all").values()
    assert set(labels) == {0, 1}


def test_the_same_files_give_the_same_bytes(tmp_path, photos):
    for name in ("one", "two"):
        write_shards(photos, tmp_path / name, shard_size=20)
    for path in (tmp_path / "one").glob("*.tar"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_stopped_run_goes_on_and_leaves_no_half_shard(tmp_path, photos, monkeypatch):
    write_shards(photos, tmp_path / "straight", shard_size=10)
    add, calls = module._add, []

    def fail(tar, name, content):
        calls.append(name)
        if len(calls) == 40:
            raise OSError("plug pulled")
        add(tar, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_add", fail)
        with pytest.raises(OSError, match="plug"):
            write_shards(photos, tmp_path / "out", shard_size=10)
    first = tmp_path / "out/train-000000.tar"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["plan.json", first.name]
    written = first.stat().st_mtime_ns
    write_shards(photos, tmp_path / "out", shard_size=10)
    assert first.stat().st_mtime_ns == written
    for path in (tmp_path / "straight").glob("*.tar"):
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()


def test_a_folder_of_something_else_is_left_alone(tmp_path, photos):
    write_shards(photos, tmp_path / "out", shard_size=10)
    with pytest.raises(ValueError, match="holds shards of other files or another size"):
        write_shards(photos, tmp_path / "out", shard_size=11)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("x")
    with pytest.raises(ValueError, match="is not empty"):
        write_shards(photos, tmp_path / "mine")
    with pytest.raises(ValueError, match="digits has no image files: give a folder"):
        write_shards(Digits(), tmp_path / "none")
    with pytest.raises(ValueError, match="shard_size is 0"):
        write_shards(photos, tmp_path / "none", shard_size=0)


def test_webdataset_reads_what_we_write_and_we_read_what_it_writes(tmp_path, photos):
    wds = pytest.importorskip("webdataset")
    write_shards(photos, tmp_path / "out", shard_size=100)
    path = str(tmp_path / "out/train-000000.tar")
    rows = list(wds.WebDataset(path, shardshuffle=False).decode("rgb8").to_tuple("png", "cls"))
    mine = everything(Shards(path), "all")
    assert sorted(int(image[0, 0, 0]) for image, _ in rows) == sorted(mine)
    with wds.TarWriter(str(tmp_path / "theirs.tar")) as writer:
        for number in range(6):
            image = np.full((8, 8, 3), number, np.uint8)
            writer.write({"__key__": f"{number:06d}", "png": image, "cls": number % 2})
    theirs = Shards(str(tmp_path / "theirs.tar"), labels=True)
    assert everything(theirs, "all") == {number: number % 2 for number in range(6)}
