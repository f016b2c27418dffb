from __future__ import annotations

import re
from zlib import crc32

import numpy as np
import pytest
import torch

from unlabeled.data.arrays import ArrayFile, as_images, unit

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (12, 9, 11, 3), dtype=np.uint8)


def saved(tmp_path, array, name="x.npy"):
    np.save(tmp_path / name, array)
    return str(tmp_path / name)


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (PIXELS[..., 0], (12, 1, 9, 11)),
        (PIXELS, (12, 3, 9, 11)),
        (PIXELS.transpose(0, 3, 1, 2), (12, 3, 9, 11)),
        (PIXELS[..., :1], (12, 1, 9, 11)),
        (RANDOM.integers(0, 9, (4, 40, 40, 12), dtype=np.uint8), (4, 12, 40, 40)),
    ],
)
def test_shapes_are_read_as_what_they_are(tmp_path, array, shape):
    source = ArrayFile(saved(tmp_path, array))
    assert source.split("train").images.shape == shape
    assert source.spec().channels == shape[1]
    assert source.spec().size == min(shape[2:])


def test_both_orders_give_the_same_images(tmp_path):
    last = ArrayFile(saved(tmp_path, PIXELS)).split("train").images
    first = ArrayFile(saved(tmp_path, PIXELS.transpose(0, 3, 1, 2), "y.npy")).split("train").images
    assert torch.equal(last, first)
    assert torch.equal(last[2, 1], torch.from_numpy(PIXELS[2, :, :, 1].copy()))


def test_a_shape_with_two_readings_asks_which(tmp_path):
    path = saved(tmp_path, np.zeros((5, 3, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=rf"{re.escape(path)}.*\(5, 3, 8, 3\).*order='nchw'"):
        ArrayFile(path).split("train")
    assert ArrayFile(path, order="nchw").split("train").images.shape == (5, 3, 8, 3)
    assert ArrayFile(path, order="nhwc").split("train").images.shape == (5, 3, 3, 8)


@pytest.mark.parametrize("shape", [(5,), (5, 4), (2, 3, 4, 5, 6), (5, 30, 30, 30), (0, 4, 4)])
def test_wrong_shapes_are_named(tmp_path, shape):
    path = saved(tmp_path, np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match=f"{re.escape(path)} has shape {re.escape(str(shape))}"):
        ArrayFile(path).split("train")


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([0, 7, 255], np.uint8), [0, 7, 255]),
        (np.array([False, True]), [0, 255]),
        (np.array([0, 7, 255], np.int64), [0, 7, 255]),
        (np.array([0, 65535], np.uint16), [0.0, 1.0]),
        (np.array([0, 0.25, 1.0]), [0.0, 0.25, 1.0]),
        (np.array([0, 51.0]), [0.0, 0.2]),
    ],
)
def test_values_become_bytes_or_unit_floats(array, expected):
    result = unit(array, path="x")
    assert result.dtype in (np.uint8, np.float32)
    assert result.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, r"NaN or inf \(1 values\): replace"),
        (np.inf, "NaN or inf"),
        (-2.0, r"from -2\.0 to 0\.5.*scale them"),
        (300.0, r"from 0\.5 to 300\.0.*scale them"),
        (1j, "complex128"),
    ],
)
def test_values_that_are_no_pixels_are_named(tmp_path, value, words):
    array = np.full((3, 4, 4), 0.5, dtype=np.result_type(type(value), np.float64))
    array[1, 2, 3] = value
    path = saved(tmp_path, array)
    with pytest.raises(ValueError, match=f"{re.escape(path)}.*{words}"):
        ArrayFile(path).split("train")


@pytest.mark.parametrize("keys", [("x", "y"), ("images", "labels"), ("data", "targets")])
def test_labeled_npz_is_split_by_place(tmp_path, keys):
    path = tmp_path / "a.npz"
    images = RANDOM.integers(0, 256, (40, 8, 8), dtype=np.uint8)
    names = np.array(["cat", "ant"] * 20)
    np.savez(path, **dict(zip(keys, (images, names), strict=True)))
    source = ArrayFile(str(path))
    held = [place for place in range(40) if crc32(str(place).encode()) % 5 == 0]
    assert source.classes == ("ant", "cat")
    assert torch.equal(source.split("test").images[:, 0], torch.from_numpy(images[held]))
    assert source.size("train") + source.size("test") == source.size("all") == 40
    assert source.split("all").label.tolist() == [1, 0] * 20


@pytest.mark.parametrize("spelled", ["{split}_{key}", "{key}_{split}"])
def test_npz_with_its_own_splits(tmp_path, spelled):
    path = tmp_path / "a.npz"
    parts = {
        spelled.format(split=split, key=key): value
        for split, count in (("train", 6), ("test", 3))
        for key, value in (("x", np.zeros((count, 4, 4), np.uint8)), ("y", np.arange(count)))
    }
    np.savez(path, **parts)
    source = ArrayFile(str(path))
    assert (source.size("train"), source.size("test")) == (6, 3)
    assert source.split("test").label.tolist() == [0, 1, 2]
    assert len(source.classes) == 6


def test_unlabeled_files_have_no_test_split(tmp_path):
    source = ArrayFile(saved(tmp_path, PIXELS))
    assert source.classes is None
    with pytest.raises(ValueError, match=r"no labels, so nothing is set apart.*it has train, all"):
        source.split("test")


def test_damaged_and_odd_files_are_named(tmp_path):
    (tmp_path / "bad.npy").write_bytes(b"not numpy")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 cut")
    (tmp_path / "empty.npy").write_bytes(b"")
    np.save(tmp_path / "objects.npy", np.array([{}, 1], dtype=object))
    for name in ("bad.npy", "bad.npz", "empty.npy", "objects.npy"):
        with pytest.raises(ValueError, match=rf"{re.escape(name)} cannot be read.*numpy\.save"):
            ArrayFile(str(tmp_path / name)).split("train")
    np.savez(tmp_path / "keys.npz", pictures=PIXELS)
    with pytest.raises(ValueError, match="has the keys pictures: name the images one of x, images"):
        ArrayFile(str(tmp_path / "keys.npz")).split("train")
    np.savez(tmp_path / "count.npz", x=PIXELS, y=np.zeros(5, int))
    with pytest.raises(ValueError, match=r"12 images but labels of shape \(5,\)"):
        ArrayFile(str(tmp_path / "count.npz")).split("train")
    np.savez(tmp_path / "float.npz", x=PIXELS, y=np.zeros(12))
    with pytest.raises(ValueError, match="labels are float64: give integers or text"):
        ArrayFile(str(tmp_path / "float.npz")).split("train")
    with pytest.raises(FileNotFoundError, match=r"nope\.npy does not exist"):
        ArrayFile(str(tmp_path / "nope.npy"))
    with pytest.raises(ValueError, match="order is 'hwc'"):
        ArrayFile(str(tmp_path / "bad.npy"), order="hwc")


def test_a_given_order_must_fit_the_shape():
    with pytest.raises(ValueError, match="which is not nhw"):
        as_images(PIXELS, path="x", order="nhw")
