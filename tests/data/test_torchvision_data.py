from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image

from unlabeled.data.torchvision_data import SETS, ImageNet, Torchvision, get

RANDOM = np.random.default_rng(0)


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """CIFAR-10's layout with six pictures in all."""
    base = tmp_path / "cifar-10-batches-py"
    base.mkdir()
    pixels = RANDOM.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    for place, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        batch = {"data": pixels[place].reshape(1, -1), "labels": [place]}
        (base / name).write_bytes(pickle.dumps(batch))
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *_: True)
    return tmp_path, pixels


def test_arrays_are_taken_as_they_are(cifar):
    root, pixels = cifar
    source = Torchvision("CIFAR10", root=str(root))
    assert torch.equal(source.split("train").images, torch.from_numpy(pixels[:5]))
    assert source.split("test").label.tolist() == [5]
    assert source.classes == tuple("abcdefghij")
    assert (source.name, source.spec().channels, source.spec().size) == ("cifar10", 3, 32)


@pytest.mark.parametrize(("name", "red"), [("CIFAR10", 0.4914), ("CIFAR100", 0.5071)])
def test_cifar_is_known_without_its_files(tmp_path, name, red):
    source = Torchvision(name, root=str(tmp_path))
    assert (source.spec().channels, source.spec().size) == (3, 32)
    assert source.spec().mean[0] == red
    assert source.at(64).spec().size == 64


class Pictures:
    """A data set without arrays, as EuroSAT and Food101 are."""

    reads = 0

    def __init__(self, root, download=False, **options):
        self.options = options

    def __len__(self):
        return 30

    def __getitem__(self, place):
        Pictures.reads += 1
        return Image.new("RGB", (300 + place, 200), (place, 0, 0)), place % 3


@pytest.mark.parametrize("name", ["EuroSAT", "Food101"])
def test_items_are_decoded_once_and_reduced(tmp_path, monkeypatch, name):
    monkeypatch.setattr(torchvision.datasets, name, Pictures)
    source = Torchvision(name, root=str(tmp_path))
    assert source.spec().size == 96
    train, test = source.split("train"), source.split("test")
    if name == "EuroSAT":  # no split of its own
        assert len(train) + len(test) == 30
        assert len(test) > 0
    before = Pictures.reads
    for _ in range(2):
        batch = train.__getitems__([1, 0])
    assert Pictures.reads == before  # spec() read them
    first = batch["views"][0][1]
    place = int(first[0, 0, 0])
    assert first.shape == (3, 192, round((300 + place) * 192 / 200))
    assert batch["label"].tolist()[1] == place % 3


def test_nothing_is_downloaded_unless_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("UNLABELED_DATA", str(tmp_path))

    def refuse(*args, **options):
        raise OSError("no network")

    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", refuse)
    source = Torchvision("CIFAR10")
    assert source.folder == tmp_path / "torchvision" / "CIFAR10"
    with pytest.raises(FileNotFoundError, match="run: unlabeled data get torchvision/CIFAR10"):
        source.split("train")
    assert not source.folder.exists()
    with pytest.raises(OSError, match=r"torchvision/CIFAR10 cannot be downloaded: no network"):
        get("CIFAR10")


def test_names_and_splits_are_checked():
    with pytest.raises(ValueError, match=r"Did you mean torchvision/CIFAR10\? There are CIFAR10"):
        Torchvision("cifar-10")
    with pytest.raises(ValueError, match="no data set torchvision/CocoCaptions"):
        Torchvision("CocoCaptions")
    with pytest.raises(ValueError, match=r"torchvision/STL10 has no split 'val'.*unlabeled"):
        Torchvision("STL10").split("val")


@pytest.mark.parametrize("name", SETS)
def test_every_set_exists_in_torchvision(name):
    import inspect

    known = inspect.signature(getattr(torchvision.datasets, name)).parameters
    loose = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    for options in SETS[name].values():
        assert set(options) <= set(known) or loose


def test_imagenet_needs_no_files_before_it_is_read(tmp_path):
    source = ImageNet(str(tmp_path))
    assert (source.size("train"), source.size("test")) == (1_281_167, 50_000)
    assert (source.spec().channels, source.spec().size) == (3, 224)
    with pytest.raises(FileNotFoundError, match=r"imagenet is not in .*train/CLASS/ and"):
        source.split("train")
    with pytest.raises(ValueError, match="no split 'val': it has train, test"):
        source.split("val")


def test_imagenet_reads_its_folders(tmp_path):
    for folder in ("train/n01", "train/n02", "val/n01", "val/n02"):
        (tmp_path / folder).mkdir(parents=True)
        for place in range(2):
            Image.new("L", (400, 300)).save(tmp_path / folder / f"{place}.JPEG")
    source = ImageNet(str(tmp_path))
    assert source.classes == ("n01", "n02")
    batch = source.split("test").__getitems__([0, 3])
    assert batch["label"].tolist() == [0, 1]
    assert batch["views"][0].shape == (2, 3, 300, 400)  # smaller than what is kept
