from __future__ import annotations

import gzip
import hashlib
import logging
import shutil
import subprocess

import numpy as np
import pytest
import torch

from unlabeled.data import fashion_mnist as module
from unlabeled.data.fashion_mnist import FashionMnist, find, get, read_idx

RANDOM = np.random.default_rng(0)


def idx(array):
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A folder with small files in Fashion-MNIST's layout, which count as the real ones."""
    folder = tmp_path / "files"
    folder.mkdir()
    arrays, sums = {}, {}
    for name in module.FILES:
        count = 20 if name.startswith("train") else 10
        shape = (count, 28, 28) if "images" in name else (count,)
        arrays[name] = RANDOM.integers(0, 10, shape, dtype=np.uint8)
        (folder / f"{name}.gz").write_bytes(gzip.compress(idx(arrays[name])))
        sums[name] = hashlib.sha256(idx(arrays[name])).hexdigest()
    monkeypatch.setattr(module, "FILES", sums)
    return folder, arrays


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No usual place has the files."""
    monkeypatch.setenv("UNLABELED_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "DEBIAN_FOLDER", tmp_path / "usr" / "datasets")
    return tmp_path


@pytest.mark.parametrize("packed", [True, False])
def test_idx_round_trip(tmp_path, packed):
    array = RANDOM.integers(0, 256, (3, 4, 5), dtype=np.uint8)
    path = tmp_path / ("x.gz" if packed else "x")
    path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    assert torch.equal(read_idx(path), torch.from_numpy(array))


def test_damaged_files_are_named(tmp_path):
    good = gzip.compress(idx(RANDOM.integers(0, 256, (50, 4, 5), dtype=np.uint8)))
    raw = idx(np.zeros((2, 3), np.uint8))
    for name, content, words in (
        ("cut.gz", good[: len(good) // 2], "is damaged.*delete it and run: unlabeled data get"),
        ("text.gz", b"hello", "is damaged"),
        ("magic", b"\x00\x00\x0d\x01" + raw[4:], "is no IDX file"),
        ("empty", b"", "is no IDX file"),
        ("short", raw[:-1], r"holds 5 bytes, its header says 2 x 3: delete it"),
        ("long", raw + b"x", "holds 7 bytes"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} {words}"):
            read_idx(path)
    (tmp_path / "other").write_bytes(raw)
    with pytest.raises(ValueError, match=r"other is not Fashion-MNIST's \(sha256 differs\)"):
        read_idx(tmp_path / "other", sha256="0" * 64)


@pytest.mark.parametrize("below", ["", "fashion-mnist", "FashionMNIST/raw"])
def test_a_given_folder_is_searched_first(written, nowhere, below):
    folder, arrays = written
    root = nowhere / "given"
    (root / below).parent.mkdir(parents=True, exist_ok=True)
    folder.rename(root / below)
    source = FashionMnist(str(root))
    for split, prefix in (("train", "train"), ("test", "t10k")):
        samples = source.split(split)
        images = torch.from_numpy(arrays[f"{prefix}-images-idx3-ubyte"])
        assert torch.equal(samples.images[:, 0], images)
        assert samples.label.tolist() == arrays[f"{prefix}-labels-idx1-ubyte"].tolist()


def test_then_the_cache_then_debian(written, nowhere, caplog):
    folder, _ = written
    debian = nowhere / "usr" / "datasets"
    debian.parent.mkdir(parents=True)
    folder.rename(debian)
    assert find() == debian
    cache = nowhere / "cache" / "fashion-mnist"
    cache.parent.mkdir()
    shutil.copytree(debian, cache)
    assert find() == cache
    with caplog.at_level(logging.WARNING, "unlabeled"):
        assert find(str(nowhere / "empty")) == cache
    assert "is not in" in caplog.text


def test_a_folder_that_lacks_one_file_does_not_count(written, nowhere):
    folder, _ = written
    next(folder.glob("t10k-labels*")).unlink()
    with pytest.raises(FileNotFoundError, match="run: unlabeled data get fashion-mnist"):
        find(str(folder))


def test_facts_need_no_files(nowhere):
    source = FashionMnist(str(nowhere))
    assert (source.size("train"), source.size("test")) == (60_000, 10_000)
    assert (source.spec().channels, source.spec().size, len(source.classes)) == (1, 28, 10)
    with pytest.raises(FileNotFoundError) as error:
        source.split("train")
    assert all(str(place) in str(error.value) for place in (nowhere, nowhere / "cache"))
    for ask in (source.size, source.split):
        with pytest.raises(ValueError, match="no split 'val': it has train, test"):
            ask("val")


def test_get_keeps_what_the_first_working_way_finds(written, nowhere, monkeypatch, caplog):
    folder, _ = written

    def broken(work):
        raise RuntimeError("apt-get download failed: no such package")

    monkeypatch.setattr(module, "_from_debian", broken)
    monkeypatch.setattr(module, "_from_torchvision", lambda work: folder)
    with caplog.at_level(logging.WARNING, "unlabeled"):
        assert get() == nowhere / "cache" / "fashion-mnist"
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "no such package" in lines[1]
    assert find() == get() == nowhere / "cache" / "fashion-mnist"
    assert not list((nowhere / "cache" / "fashion-mnist").glob("*.part*"))


def test_get_tells_all_failures_in_one_error(written, nowhere, monkeypatch):
    folder, _ = written
    wrong = next(folder.glob("train-labels*"))
    wrong.write_bytes(gzip.compress(idx(np.zeros(3, np.uint8))))

    def refused(*args, **options):
        return subprocess.CompletedProcess(args, 100, "", "E: Unable to locate\n")

    monkeypatch.setattr(module.subprocess, "run", refused)
    monkeypatch.setattr(module, "_from_torchvision", lambda work: folder)
    with pytest.raises(OSError, match="Unable to locate") as error:
        get()
    assert "sha256 differs" in str(error.value)
    assert not (nowhere / "cache" / "fashion-mnist" / "t10k-labels-idx1-ubyte").exists()


def test_without_root_apt_gets_lists_of_its_own(tmp_path, monkeypatch):
    calls = []

    def run(command, **options):
        calls.append(command)
        if command == ["apt-get", "download", "dataset-fashion-mnist"]:
            return subprocess.CompletedProcess(command, 100, "", "E: no lists")
        if command[-2:] == ["download", "dataset-fashion-mnist"]:
            (tmp_path / "dataset-fashion-mnist_1.deb").write_bytes(b"")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(module.subprocess, "run", run)
    assert module._from_debian(tmp_path).is_relative_to(tmp_path / "unpacked")
    assert [command[-1] for command in calls[1:3]] == ["update", "dataset-fashion-mnist"]
    assert all(f"Dir::State::lists={tmp_path}/lists" in command for command in calls[1:3])
    assert calls[3][:2] == ["dpkg", "-x"]


def test_the_real_set_is_what_its_constants_say():
    try:
        find()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    source = FashionMnist()
    train = source.split("train")
    pixels = train.images.double() / 255
    assert train.images.shape == (60_000, 1, 28, 28)
    assert train.label.bincount().tolist() == [6000] * 10
    assert source.split("test").label.bincount().tolist() == [1000] * 10
    assert round(pixels.mean().item(), 4) == source.spec().mean[0]
    assert round(pixels.std().item(), 4) == source.spec().std[0]
