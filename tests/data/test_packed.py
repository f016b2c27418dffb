from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from unlabeled.data import open_data
from unlabeled.data.decode import read_image
from unlabeled.data.folder import ImageFolder
from unlabeled.data.packed import PackedImages, open_pack, verify
from unlabeled.data.packing import pack
from unlabeled.data.paths import PathList
from unlabeled.features import embed
from unlabeled.recipe import describe, rebuild

RANDOM = np.random.default_rng(0)


def picture(path, size=(60, 48), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = RANDOM.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size).save(path, **options)


@pytest.fixture
def photos(tmp_path):
    """Two classes, odd names, sizes and formats."""
    root = tmp_path / "photos"
    for place in range(12):
        picture(root / "a" / f"é {place}.jpg", (60 + place, 48))
        picture(root / "日本" / f"{place}.png", (40, 70 + place))
    picture(root / "a" / os.fsdecode(b"not\xffutf8.jpg"))
    picture(root / "a" / "small.png", (9, 7))
    picture(root / "a" / "long.png", (900, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(root / "日本" / "turned.jpg", (64, 40), exif=exif)
    Image.new("CMYK", (50, 60), (0, 90, 0, 0)).save(root / "a" / "cmyk.jpg")
    return root


def everything(source, split="all"):
    samples = source.split(split)
    return samples.__getitems__(list(range(len(samples))))


def relative(batch, root):
    return [os.path.relpath(path, root) for path in batch["path"]]


def test_pixels_labels_and_splits_are_those_of_the_folder(photos, tmp_path):
    folder = ImageFolder(str(photos))
    packed = pack(folder, tmp_path / "pack", size=24)
    assert packed.classes == folder.classes == ("a", "日本")
    assert packed.spec().channels == 3
    assert packed.spec().size == 24  # not above what was packed
    decoded = everything(folder.at(12))["views"][0]  # at 2 x 12, as the pack
    for split in ("train", "test", "all"):
        ours, theirs = everything(packed, split), everything(folder, split)
        assert ours["path"] == relative(theirs, photos)
        assert torch.equal(ours["label"], theirs["label"])
        assert torch.equal(ours["index"], theirs["index"])
        assert packed.size(split) == folder.size(split)
    target = folder.files().store.target
    for path, image, same in zip(
        everything(packed)["path"], everything(packed)["views"][0], decoded, strict=True
    ):
        expected = read_image(
            str(photos / path), type(target)(channels=3, side=24, peak=target.peak)
        )
        assert torch.equal(image, expected)
        assert torch.equal(image, same)
        assert min(image.shape[1:]) == min(24, min(expected.shape[1:]))
    with pytest.raises(ValueError, match=r"no split 'val': it has train, test, all"):
        packed.split("val")


def test_images_of_one_size_are_one_tensor(tmp_path):
    for place in range(6):
        picture(tmp_path / "in" / f"{place}.jpg")
    picture(tmp_path / "in" / "other.jpg", (80, 48))
    samples = pack(ImageFolder(str(tmp_path / "in")), tmp_path / "out", size=32).split("train")
    same = samples.__getitems__([4, 0])["views"][0]
    assert same.shape == (2, 3, 32, 40)
    mixed = samples.__getitems__([6, 4])["views"][0]
    assert isinstance(mixed, list)
    assert torch.equal(mixed[1], same[0])
    same.zero_()  # a copy: the file cannot be written through it
    assert samples.__getitems__([4])["views"][0].any()


def test_no_file_of_the_source_is_needed_any_more(photos, tmp_path, monkeypatch):
    from unlabeled.data import files

    pack(ImageFolder(str(photos)), tmp_path / "pack", size=24)
    photos.rename(tmp_path / "gone")
    monkeypatch.setattr(files, "read_image", None)
    packed = open_data(str(tmp_path / "pack"))
    assert isinstance(packed, PackedImages)
    x = packed.prepare(packed.spec())(everything(packed, "train"))
    assert x.shape == (packed.size("train"), 3, 24, 24)
    assert x.isfinite().all()


def test_folders_of_splits_and_lists_keep_theirs(tmp_path):
    for folder in ("train/x", "train/y", "val/x", "test/y"):
        for place in range(3):
            picture(tmp_path / "in" / folder / f"{place}.png")
    packed = pack(ImageFolder(str(tmp_path / "in")), tmp_path / "out", size=24)
    assert {name: packed.size(name) for name in ("train", "val", "test", "all")} == {
        "train": 6, "val": 3, "test": 3, "all": 12,
    }  # fmt: skip
    (tmp_path / "list.txt").write_text("in/train/x/0.png\nin/val/x/1.png\n")
    listed = pack(PathList(str(tmp_path / "list.txt")), tmp_path / "listed", size=24)
    assert everything(listed)["path"] == ["in/train/x/0.png", "in/val/x/1.png"]
    assert listed.classes is None
    assert "label" not in everything(listed)
    with pytest.raises(ValueError, match=r"'test' .no labels, so nothing is set apart"):
        listed.split("test")


def test_a_pack_is_plain_values_that_a_recipe_stores(photos, tmp_path):
    packed = pack(ImageFolder(str(photos)), tmp_path / "pack", size=24)
    assert rebuild(describe(packed)) == packed
    assert rebuild(describe(packed)).split("train") is packed.split("train")
    assert packed.at(16).spec().size == 16
    assert open_data(str(tmp_path / "pack"), image_size=16) == packed.at(16)
    with pytest.raises(ValueError, match="has 3 channels, not 1"):
        open_data(str(tmp_path / "pack"), channels=1)
    with pytest.raises(ValueError, match="image_size is 0"):
        packed.at(0)


def test_features_of_a_pack_are_those_of_the_folder(photos, tmp_path):
    folder = ImageFolder(str(photos), image_size=12)
    packed = pack(folder, tmp_path / "pack", size=12)
    spec = folder.spec()

    def means(x):
        return x.mean((2, 3))

    ours, theirs = (embed(means, source, split="all", spec=spec) for source in (packed, folder))
    assert torch.equal(ours.x, theirs.x)
    assert torch.equal(ours.label, theirs.label)


@pytest.mark.parametrize("file", ["pack.json", "index.npy", "paths.bin"])
def test_a_flipped_bit_outside_the_pixels_is_found_on_opening(photos, tmp_path, file):
    out = tmp_path / "pack"
    packed = pack(ImageFolder(str(photos)), out, size=24)
    content = bytearray((out / file).read_bytes())
    content[len(content) // 2] ^= 4
    (out / file).write_bytes(bytes(content))
    with pytest.raises(ValueError, match=rf"{file} is damaged .*pack it again"):
        verify(str(out))
    if file != "pack.json":  # the open pack is known by its mark
        open_pack.__globals__["_open"].cache_clear()
    with pytest.raises(ValueError, match=f"{file} is damaged"):
        packed.split("train")


def test_a_flipped_bit_in_the_pixels_names_its_image(photos, tmp_path):
    out = tmp_path / "pack"
    packed = pack(ImageFolder(str(photos)), out, size=24)
    rows = open_pack(str(out)).rows
    path = open_pack(str(out)).names[5]
    assert verify(str(out)) == {
        "images": len(rows), "bytes": (out / "pixels.bin").stat().st_size, "damaged": [],
    }  # fmt: skip
    with (out / "pixels.bin").open("r+b") as file:
        file.seek(int(rows["start"][5]) + 100)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    assert verify(str(out))["damaged"] == [path]
    whole = packed.split("all")
    assert len(whole.__getitems__([4, 6])["index"]) == 2
    with pytest.raises(ValueError, match=f"the pixels of {path} .*are damaged"):
        whole.__getitems__([4, 5])


@pytest.mark.parametrize("file", ["pixels.bin", "index.npy", "paths.bin"])
@pytest.mark.parametrize("change", ["cut", "longer", "gone"])
def test_files_of_another_length_are_refused(photos, tmp_path, file, change):
    out = tmp_path / "pack"
    pack(ImageFolder(str(photos)), out, size=24)
    content = (out / file).read_bytes()
    if change == "gone":
        (out / file).unlink()
    else:
        (out / file).write_bytes(content[:-1] if change == "cut" else content + b"x")
    says = "is missing" if change == "gone" else r"has [\d,]+ bytes"
    with pytest.raises(ValueError, match=rf"{file} {says}, [\d,]+ were packed: pack it again"):
        PackedImages(str(out)).split("train")


def test_what_is_no_pack_or_of_another_version_says_so(photos, tmp_path):
    from unlabeled.data.packed import facts_text

    with pytest.raises(FileNotFoundError, match=r"is no pack .it has no pack\.json."):
        PackedImages(str(photos))
    out = tmp_path / "pack"
    pack(ImageFolder(str(photos)), out, size=24)
    facts = json.loads((out / "pack.json").read_text())
    del facts["sha256"]
    (out / "pack.json").write_text(facts_text({**facts, "format": "unlabeled pack 9"}))
    with pytest.raises(ValueError, match="is a 'unlabeled pack 9', this version reads"):
        PackedImages(str(out)).split("train")
    (out / "pack.json").write_text("{")
    with pytest.raises(ValueError, match=r"pack\.json is damaged"):
        PackedImages(str(out)).split("train")
