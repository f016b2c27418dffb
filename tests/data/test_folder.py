from __future__ import annotations

import logging
import os
import re
import time
import tracemalloc
from dataclasses import replace
from zlib import crc32

import numpy as np
import pytest
import torch
from PIL import Image

from unlabeled.data import folder
from unlabeled.data.folder import ImageFolder
from unlabeled.data.stream import Loader, Stream
from unlabeled.recipe import describe, rebuild

RANDOM = np.random.default_rng(0)


def picture(path, side=40):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RANDOM.integers(0, 256, (side, side + 8, 3), dtype=np.uint8)).save(path)


def fill(root, *folders, count=8):
    for below in folders:
        for place in range(count):
            picture(root / below / f"{place}.png")
    return ImageFolder(str(root))


def names(source, split):
    samples = source.split(split)
    paths = samples.__getitems__(list(range(len(samples))))["path"]
    return [os.path.relpath(path, source.path) for path in paths]


def test_a_flat_folder_is_all_train(tmp_path):
    source = fill(tmp_path, ".")
    assert source.size("train") == source.size("all") == 8
    assert source.classes is None
    assert "label" not in source.split("train").__getitems__([0])
    with pytest.raises(ValueError, match=r"'test' .no class folders.*: it has train, all"):
        source.split("test")


def test_class_folders_give_labels_and_a_split_by_path(tmp_path):
    source = fill(tmp_path, "b/deep", "a", count=20)
    assert source.classes == ("a", "b")
    held = {name for name in names(source, "all") if crc32(name.encode()) % 5 == 0}
    assert set(names(source, "test")) == held
    assert 0 < len(held) < 20
    assert set(names(source, "train")) == set(names(source, "all")) - held
    for split in ("train", "test", "all"):
        samples = source.split(split)
        batch = samples.__getitems__(list(range(len(samples))))
        expected = [int("/b/" in path) for path in batch["path"]]
        assert batch["label"].tolist() == expected


@pytest.mark.parametrize("folders", [("one",), ("a", "b", ".")])
def test_one_folder_or_stray_images_are_no_classes(tmp_path, folders):
    assert fill(tmp_path, *folders).classes is None


@pytest.mark.parametrize(
    ("folders", "sizes"),
    [
        (("train/x", "train/y", "test/x"), {"train": 16, "test": 8, "all": 24}),
        (("Train/x", "Train/y", "Val/y"), {"train": 16, "test": 8, "all": 24}),
        (("train/x", "val/x", "test/y"), {"train": 8, "val": 8, "test": 8, "all": 24}),
        (("train/x", "train/y"), {"train": 16, "all": 16}),
        (("train/x", "test/y", "extra", "."), {"train": 8, "test": 8, "all": 16}),
    ],
)
def test_folders_named_after_splits_are_splits(tmp_path, folders, sizes):
    source = fill(tmp_path, *folders)
    assert source.classes == ("x", "y")
    assert {split: source.size(split) for split in sizes} == sizes
    with pytest.raises(ValueError, match=f"it has {', '.join(sizes)}$"):
        source.split("nope")


def test_what_lies_beside_splits_is_named(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "unlabeled"):
        fill(tmp_path, "train/x", "test/y", "extra").split("train")
    assert "has splits test, train: extra (8 images) left out" in caplog.text


def test_unlabeled_splits_say_so(tmp_path, caplog):
    source = fill(tmp_path, "train/x", "train/y", "test")
    with caplog.at_level(logging.WARNING, "unlabeled"):
        assert source.classes is None
    assert "no labels" in caplog.text
    assert "8 images lie in none, such as test/0.png" in caplog.text


def test_odd_files_pass_or_are_named(tmp_path, caplog):
    root = tmp_path / "odd é folder"
    for place in range(40):
        picture(root / f"a b/p {place}.jpg")
    (root / "zero.jpg").write_bytes(b"")
    (root / "text.jpg").write_text("hello there")
    Image.new("CMYK", (50, 60), (0, 0, 0, 0)).save(root / "cmyk.jpg")
    Image.fromarray(RANDOM.integers(0, 65536, (40, 50), dtype=np.uint16)).save(root / "16.png")
    Image.new("P", (40, 40)).save(root / "palette.gif")
    Image.new("RGB", (1, 1)).save(root / "one.png")
    Image.new("RGB", (20000, 10)).save(root / "long.png")
    Image.new("RGBA", (30, 30)).save(root / "日本.png")
    Image.new("I", (30, 30), 70000).save(root / "deep.tif")
    (root / "a b/loop").symlink_to(root)
    (root / "self.png").symlink_to("self.png")
    (root / ".DS_Store.jpg").write_bytes(b"")
    picture(root / "cut.jpg", 90)
    content = (root / "cut.jpg").read_bytes()
    (root / "cut.jpg").write_bytes(content[: len(content) // 2])
    source = ImageFolder(str(root))
    with caplog.at_level(logging.WARNING, "unlabeled"):
        spec = source.spec()
        samples = source.split("train")
        batch = samples.__getitems__(list(range(len(samples))))
    assert (spec.channels, spec.size) == (3, 32)
    assert len(samples) == 40 + 8
    at_start, later = (record.getMessage() for record in caplog.records)
    assert at_start == (
        f"{root}: 3 of 51 files cannot be read and are skipped: self.png (a link to itself), "
        "text.jpg (no image, starts with b'hello th'), zero.jpg (empty file)"
    )
    assert later.startswith(f"{root}: cut.jpg cannot be read (image file is truncated")
    assert later.endswith("the next image takes its place")
    x = source.prepare(spec)(batch)
    assert x.shape == (48, 3, 32, 32)
    assert x.isfinite().all()


def test_empty_missing_single_and_wrong_paths_end_in_one_clear_line(tmp_path):
    empty, notes, single, bad = (tmp_path / name for name in ("empty", "notes", "single", "bad"))
    for below in (empty, notes, single, bad):
        below.mkdir()
    (notes / "a.md").write_text("x")
    (notes / "b.heic").write_text("x")
    picture(single / "a.png")
    (bad / "a.png").write_bytes(b"")

    def message(path):
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            ImageFolder(str(path)).split("train")
        assert "\n" not in str(error.value)
        return str(error.value)

    assert message(empty) == f"{empty} holds no images (it is empty)"
    assert re.search(r"holds no images \(it has 1 \.heic, 1 \.md; known are \.bmp", message(notes))
    assert message(single) == f"{single} has one readable image: learning needs two or more"
    assert ImageFolder(str(single)).size("all") == 1
    assert message(bad) == f"{bad}: no image can be read: a.png (empty file)"
    assert "does not exist: give a folder" in message(tmp_path / "gone")
    assert "is a file: give the folder" in message(single / "a.png")
    with pytest.raises(ValueError, match="channels is 0"):
        ImageFolder(str(single), channels=0)
    with pytest.raises(ValueError, match="image_size is 0"):
        ImageFolder(str(single), image_size=0)


def test_given_channels_and_sizes_win(tmp_path):
    fill(tmp_path, ".")
    source = ImageFolder(str(tmp_path), channels=1, image_size=16)
    assert (source.spec().channels, source.spec().size) == (1, 16)
    assert source.split("train").__getitems__([0])["views"][0].shape == (1, 1, 32, 38)
    assert source.at(224).spec().size == 224


@pytest.mark.parametrize(("size", "side"), [(32, 32), (48, 48), (96, 110), (224, 256)])
def test_where_nothing_is_random_only_the_crops_pixels_are_decoded(tmp_path, size, side):
    """As resize-to-256, crop-224: no pixel is resized twice, none is decoded for random crops."""
    picture(tmp_path / "a.png", 600)
    picture(tmp_path / "b.png", 600)
    source = ImageFolder(str(tmp_path))
    spec = replace(source.spec(), size=size)
    batch = source.plain(spec).split("train").__getitems__([0, 1])
    images = batch["views"][0]
    assert images.shape[2] == side
    assert source.fit(spec).split("train").__getitems__([0])["views"][0].shape[2] == 2 * size
    x = source.prepare(spec)(batch)
    left, top = (images.shape[3] - size) // 2, (side - size) // 2
    crop = images[:, :, top : top + size, left : left + size].float() / 255
    mean, std = (torch.tensor(value)[:, None, None] for value in (spec.mean, spec.std))
    assert torch.allclose(x, (crop - mean) / std, atol=1e-5)


def test_a_source_is_plain_values_that_a_recipe_stores(tmp_path):
    source = fill(tmp_path, ".")
    source.spec()
    again = rebuild(describe(source))
    assert again == source
    assert again.split("train") is source.split("train")  # one cache of decoded images


def test_reading_twice_gives_the_same_pixels(tmp_path):
    source = fill(tmp_path, ".")
    first = source.split("train").__getitems__([3, 1])["views"][0]
    second = source.split("train").__getitems__([1, 3])["views"][0]
    assert torch.equal(first, second.flip(0))


def test_another_size_does_not_list_the_files_again(tmp_path, monkeypatch):
    source = fill(tmp_path, "a", "b")
    source.spec()
    monkeypatch.setattr(folder, "list_images", None)
    other = source.at(8)
    assert names(other, "all") == names(source, "all")
    assert other.split("train").__getitems__([0])["views"][0].shape == (1, 3, 16, 19)


def test_fifty_thousand_files_open_fast_and_in_little_memory(tmp_path):
    """A twentieth of a million files in a twentieth of a minute; benchmarks/first_batch.py has all.

    Processor time, since other tests run beside; 120 bytes a file stay, of which 43 are its path.
    """
    picture(tmp_path / "a.png")
    count, folders = 50_000, 50
    for place in range(count):
        below = tmp_path / "many" / f"class{place % folders:04}"
        below.mkdir(parents=True, exist_ok=True) if place < folders else None
        os.link(tmp_path / "a.png", below / f"an-image-with-a-name-{place:07}.png")
    source = ImageFolder(str(tmp_path / "many"))
    start = time.process_time()
    source.spec()
    batch = next(iter(Loader(source, Stream(source.size("train"), batch_size=256, steps=1,
                                            accumulate=1, seed=0))))  # fmt: skip
    spent = time.process_time() - start
    assert len(batch["index"]) == 256
    assert source.size("train") + source.size("test") == count
    assert spent < 60 / 20
    folder._listed.cache_clear()
    tracemalloc.start()
    try:
        opened = folder._listed(source.path, None)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(opened.store.paths) == count
    assert kept < 120 * count
    assert peak < 300 * count
