from __future__ import annotations

import logging
import re

import numpy as np
import pytest
import torch
from PIL import Image

from unlabeled.data import files
from unlabeled.data.decode import Header
from unlabeled.data.files import (
    Faults,
    FileSamples,
    FileStore,
    common_channels,
    list_images,
    listed,
    recommended_side,
)


def picture(path, value=0, size=(40, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


def noise(path, side=40):
    pixels = np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def truncated(path):
    noise(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def store(root, paths=None, **options):
    values = {"channels": None, "image_size": None, "cache_bytes": 2**20, **options}
    return FileStore("src", root=str(root), paths=paths or list_images(str(root)), **values)


def test_listing_is_sorted_skips_the_hidden_and_opens_nothing(tmp_path, monkeypatch):
    for name in (
        "b.JPG",
        "a/x y.png",
        "a/é.tif",
        ".h.png",
        ".git/c.png",
        "__MACOSX/d.png",
        "n.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.setattr("builtins.open", None)
    assert list_images(str(tmp_path)) == ["a/x y.png", "a/é.tif", "b.JPG"]


def test_links_are_followed_once_and_loops_end(tmp_path):
    picture(tmp_path / "data/real/a.png")
    picture(tmp_path / "other/b.png")
    (tmp_path / "data/real/up").symlink_to(tmp_path / "data")
    (tmp_path / "data/again").symlink_to(tmp_path / "data/real")
    (tmp_path / "data/out").symlink_to(tmp_path / "other")
    (tmp_path / "data/self").symlink_to("self")
    (tmp_path / "data/file.png").symlink_to(tmp_path / "other/b.png")
    found = list_images(str(tmp_path / "data"))
    assert found == ["file.png", "out/b.png", "real/a.png"]


def test_channels_and_side_follow_the_headers():
    def header(bands, side=50):
        return Header(bands, "byte", side, side + 9)

    assert common_channels([header(1)] * 3) == 1
    assert common_channels([header(1)] * 3 + [header(3)]) == 3
    assert common_channels([header(8)] * 3 + [header(3)]) == 8
    assert common_channels([header(8)] + [header(1)] * 3) == 3
    for side, expected in ((1, 32), (28, 32), (50, 48), (64, 64), (79, 64), (500, 96)):
        assert recommended_side([header(3, 5), header(3, side), header(3, 5000)]) == expected


def test_images_are_decoded_once_up_to_the_cache_limit(tmp_path, monkeypatch):
    for place in range(4):
        picture(tmp_path / f"{place}.png", place)
    opened = store(tmp_path, cache_bytes=2 * 1600)
    reads = []
    real = files.read_image
    monkeypatch.setattr(files, "read_image", lambda p, t: reads.append(p) or real(p, t))
    for _ in range(3):
        images = opened.read([0, 1, 2, 3])
        assert [image.float().mean().item() for image in images] == [0, 1, 2, 3]
    assert len(reads) == 4 + 2 + 2


def test_bad_headers_are_reported_in_one_line_and_left_out(tmp_path, caplog):
    for place in range(20):
        picture(tmp_path / f"{place:02}.png")
    (tmp_path / "zero.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("hello there")
    with caplog.at_level(logging.WARNING, "unlabeled"):
        opened = store(tmp_path)
    assert len(opened.paths) == 20
    assert [record.getMessage() for record in caplog.records] == [
        "src: 2 of 22 files cannot be read and are skipped: "
        "text.jpg (no image, starts with b'hello th'), zero.jpg (empty file)"
    ]


def test_a_file_that_fails_later_is_replaced_by_the_next_and_named_once(tmp_path, caplog):
    for place in (0, 1, 3):
        picture(tmp_path / f"{place}.png", place)
    truncated(tmp_path / "2.png")
    truncated(tmp_path / "4.png")
    opened = store(tmp_path)
    samples = FileSamples(opened, range(5), label=torch.arange(5) * 10)
    with caplog.at_level(logging.WARNING, "unlabeled"):
        for places in ([2, 0], [4, 2], [1, 2, 3, 4]):
            batch = samples.__getitems__(places)
    images = batch["views"][0]
    assert [int(image.float().mean()) for image in images] == [1, 3, 3, 0]
    assert batch["label"].tolist() == [10, 30, 30, 0]
    assert batch["index"].tolist() == [1, 2, 3, 4]
    assert [path[-5:] for path in batch["path"]] == ["1.png", "3.png", "3.png", "0.png"]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert all("cannot be read" in line and "next image takes its place" in line for line in lines)


def test_a_replacement_never_comes_from_another_split(tmp_path):
    for place in range(3):
        picture(tmp_path / f"{place}.png", 50 * place)
    truncated(tmp_path / "1.png")
    batch = FileSamples(store(tmp_path), [0, 1]).__getitems__([1])
    assert batch["path"][0].endswith("0.png")
    with pytest.raises(ValueError, match="src: no file of it can be read"):
        FileSamples(store(tmp_path), [1]).__getitems__([0])


def test_more_than_one_percent_and_ten_files_stop_the_run(caplog):
    many = {f"{place}.jpg": "empty file" for place in range(11)}
    Faults("src", 1100).dropped(many, checked=1100)
    Faults("src", 20).dropped(dict(list(many.items())[:10]), checked=20)
    with pytest.raises(ValueError, match=r"src: 11 of 1,099 files.*more than 1 %: 0\.jpg \(empty"):
        Faults("src", 1099).dropped(many, checked=1099)
    faults = Faults("src", 500)
    for place in range(10):
        faults.add(f"{place}.jpg", "cut")
        faults.add(f"{place}.jpg", "cut")
    assert sum("takes its place" in record.getMessage() for record in caplog.records) == 10
    with pytest.raises(ValueError, match=r"11 of 500 files.*Repair or remove them"):
        faults.add("10.jpg", "cut")


def test_long_lists_are_cut():
    found = {f"{place}.jpg": "cut" for place in range(12)}
    assert listed(found, most=2) == "0.jpg (cut), 1.jpg (cut), and 10 more"


def test_of_many_files_a_sample_is_checked(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(files, "CHECK_ALL", 20)
    monkeypatch.setattr(files, "CHECK_SAMPLE", 10)
    for place in range(40):
        picture(tmp_path / f"{place:02}.png")
    (tmp_path / "04.png").write_bytes(b"")  # looked at
    (tmp_path / "05.png").write_bytes(b"")  # not looked at
    with caplog.at_level(logging.WARNING, "unlabeled"):
        opened = store(tmp_path)
    assert "1 of 10 files looked at cannot be read" in caplog.text
    assert len(opened.paths) == 39
    samples = FileSamples(opened, range(39))
    place = opened.paths.index("05.png")
    assert samples.__getitems__([place])["path"][0].endswith("06.png")


def test_mostly_deep_images_stay_deep_and_few_do_not(tmp_path):
    deep = np.full((40, 40), 300, np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    Image.fromarray(deep).save(tmp_path / "b.png")
    picture(tmp_path / "c.png", 255)
    images = store(tmp_path).read([0, 1, 2])
    assert [image.dtype for image in images] == [torch.float32] * 3
    assert [image.mean().item() for image in images] == pytest.approx([300 / 65535] * 2 + [1.0])
    picture(tmp_path / "d.png")
    images = store(tmp_path).read([0, 1, 2])
    assert [image.dtype for image in images] == [torch.uint8] * 3
    assert images[0].unique().tolist() == [1]


@pytest.mark.parametrize(("top", "peak"), [(0.5, 1.0), (200.0, 255.0), (4000.0, 65535.0)])
def test_floats_share_one_scale(tmp_path, top, peak):
    np.save(tmp_path / "a.npy", np.full((40, 40), top / 2, np.float32))
    np.save(tmp_path / "b.npy", np.full((40, 40), top, np.float32))
    opened = store(tmp_path)
    assert opened.target.peak == peak
    values = [image.mean().item() for image in opened.read([0, 1])]
    assert values == pytest.approx([top / 2 / peak, top / peak])


def test_images_are_stored_with_room_for_crops_and_sizes_may_differ(tmp_path):
    picture(tmp_path / "a.png", size=(400, 200))
    picture(tmp_path / "b.png", size=(200, 200))
    opened = store(tmp_path, image_size=48)
    views = FileSamples(opened, [0, 1]).__getitems__([0, 1])["views"][0]
    assert [tuple(view.shape) for view in views] == [(1, 96, 192), (1, 96, 96)]
    assert torch.is_tensor(FileSamples(opened, [0, 1]).__getitems__([1, 1])["views"][0])


def test_messages_carry_the_source_and_the_remedy(tmp_path):
    for place in range(12):
        (tmp_path / f"{place}.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=re.escape("src: 12 of 12 files cannot be read")):
        store(tmp_path)
