from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from unlabeled.data import get, known, open_data
from unlabeled.data.arrays import ArrayFile
from unlabeled.data.digits import Digits
from unlabeled.data.emoji import Emoji
from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.folder import ImageFolder
from unlabeled.data.paths import PathList
from unlabeled.data.torchvision_data import ImageNet, Torchvision


def test_each_text_opens_its_source(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 8, 8), np.uint8))
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 8, 8), np.uint8))
    for name in ("a.txt", "a.csv", "a.tsv"):
        (tmp_path / name).write_text("x.png")
    assert open_data("fashion-mnist", root="/data") == FashionMnist("/data")
    assert open_data("emoji", root="/data") == Emoji("/data")
    assert open_data("digits") == Digits()
    assert open_data("imagenet") == ImageNet()
    assert open_data("torchvision/CIFAR10", root="x") == Torchvision("CIFAR10", root="x")
    folder = ImageFolder(str(tmp_path), channels=1, image_size=64)
    assert open_data(str(tmp_path), channels=1, image_size=64) == folder
    for name in ("a.npy", "a.npz"):
        assert open_data(str(tmp_path / name)) == ArrayFile(str(tmp_path / name))
    for name in ("a.txt", "a.csv", "a.tsv"):
        assert open_data(str(tmp_path / name)) == PathList(str(tmp_path / name))


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("fashon-mnist", ValueError, "'fashon-mnist'. Did you mean fashion-mnist.*a folder of"),
        ("zzz", ValueError, "no data set or file 'zzz'. Give fashion-mnist, emoji, digits"),
        ("gone/photos", FileNotFoundError, "gone/photos does not exist. Give"),
        ("gone.npy", FileNotFoundError, "gone.npy does not exist"),
        ("torchvision/nope", ValueError, "no data set torchvision/nope"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(text, kind, words):
    with pytest.raises(kind, match=words):
        open_data(text)


def test_a_file_of_another_kind_is_refused(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(
        ValueError, match=rf"{re.escape(str(tmp_path))}/a\.png is a file that is no"
    ):
        open_data(str(tmp_path / "a.png"))


def test_known_sets_say_where_they_are_or_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("UNLABELED_DATA", str(tmp_path))
    monkeypatch.setattr("unlabeled.data.fashion_mnist.DEBIAN_FOLDER", tmp_path / "none")
    rows = {row.name: row for row in known()}
    assert list(rows) == [
        "fashion-mnist",
        "emoji",
        "digits",
        "xrays",
        "still-life",
        "python-docs",
        "wordnet",
        "spoken",
        "mutag",
        "isomers",
        "rooms",
        "shapes",
        "solids",
        "stickers",
        "clips",
        "motorcycle",
        "jumping",
        "imagenet",
        "asterisk",
        "librispeech",
    ]
    assert rows["fashion-mnist"].found is None
    assert rows["fashion-mnist"].remedy == "run: unlabeled data get fashion-mnist"
    assert rows["digits"].found == get("digits") == "scikit-learn"


def test_only_some_sets_can_be_fetched():
    with pytest.raises(
        ValueError,
        match=r"'imagenet' cannot be fetched.*Give fashion-mnist, emoji, asterisk, wordnet",
    ):
        get("imagenet")
