import gzip
import tarfile

import numpy as np
import pytest

from tests.data.tars import fill, picture, write_tar
from unlabeled.data import tar
from unlabeled.data.tar import contents, scan, split_name


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNLABELED_DATA", str(tmp_path / "cache"))


def names(found):
    return [name.decode() for name in found.name]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a/b.jpg", ("a/b", "jpg")),
        ("a.b/c.left.PNG", ("a.b/c", "left.png")),
        ("0001", ("0001", "")),
        ("a/._b.jpg", ("a/._b.jpg", "")),
    ],
)
def test_key_and_ending_part_at_the_first_dot_of_the_last_part(name, parts):
    assert split_name(name) == parts


def test_members_of_one_key_are_one_sample_and_bytes_lie_where_said(tmp_path):
    one, two = picture(1), picture(2)
    path = write_tar(
        tmp_path / "a.tar",
        [
            ("x/1.json", b"{}"), ("x/1.cls", b" cat\n"), ("x/1.png", one), ("x/1.txt", b"a cat"),
            ("x/2.png", two), ("readme.md", b"hello"), ("x/._2.png", b"mac"), ("3.cls", b"0"),
        ],
    )  # fmt: skip
    found = scan(str(path))
    assert names(found) == ["x/1.png", "x/2.png"]
    assert found.label.tolist() == [b"cat", b""]
    content = path.read_bytes()
    for place, expected in enumerate((one, two)):
        at = found.offset[place]
        assert content[at : at + found.size[place]] == expected


def test_of_several_images_the_plain_ending_counts_or_the_one_that_is_named(tmp_path):
    path = write_tar(
        tmp_path / "a.tar",
        [("1.mask.png", picture(1)), ("1.jpg", picture(2)), ("1.png", picture(3))],
    )
    assert names(scan(str(path))) == ["1.jpg"]
    assert names(scan(str(path), member="mask.png")) == ["1.mask.png"]


def test_links_and_folders_are_no_samples(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as file:
        for name, kind in (("1.png", tarfile.SYMTYPE), ("2.png", tarfile.DIRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            file.addfile(info)
    assert not len(scan(str(path)).name)


def test_long_names_are_read(tmp_path):
    name = "/".join(["folder" * 5] * 8) + "/1.png"
    path = tmp_path / "a.tar"
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(path, "w", format=form) as file:
            file.addfile(tarfile.TarInfo(name))
        assert names(scan(str(path))) == [name]


@pytest.mark.parametrize("cut", [100, 700, 1536, 3000, 4608])
def test_a_shard_that_is_cut_short_is_named(tmp_path, cut):
    path = fill(tmp_path, shards=1, samples=3) / "part-000.tar"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"part-000\.tar is a damaged tar file \(.*copy it again"):
        scan(str(path))


def test_damage_in_the_middle_is_found(tmp_path):
    path = fill(tmp_path, shards=1, samples=3) / "part-000.tar"
    content = bytearray(path.read_bytes())
    content[1024:1536] = b"\xff" * 512  # the second header
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged tar"):
        scan(str(path))


def test_empty_compressed_and_other_files_are_told_apart(tmp_path):
    (tmp_path / "empty.tar").write_bytes(b"")
    with pytest.raises(ValueError, match="is an empty file"):
        scan(str(tmp_path / "empty.tar"))
    whole = fill(tmp_path, shards=1) / "part-000.tar"
    (tmp_path / "z.tar").write_bytes(gzip.compress(whole.read_bytes()))
    with pytest.raises(ValueError, match="is compressed: unpack it"):
        scan(str(tmp_path / "z.tar"))
    (tmp_path / "text.tar").write_text("hello" * 500)
    with pytest.raises(ValueError, match="damaged tar"):
        scan(str(tmp_path / "text.tar"))


def test_two_members_of_one_name_are_refused(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("1.png", picture(1)), ("1.png", picture(2))])
    with pytest.raises(ValueError, match=r"holds 1\.png twice"):
        scan(str(path))


def test_absurd_sizes_are_refused(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar", [("1.png", picture(1)), ("1.cls", b"x" * 2000)])
    with pytest.raises(ValueError, match="2,000 bytes, no label is"):
        scan(str(path))
    monkeypatch.setattr(tar, "LARGEST_IMAGE", 10)
    with pytest.raises(ValueError, match=r"1\.png is \d+ bytes, no image is"):
        scan(str(path))


def test_a_scan_is_kept_until_the_file_changes(tmp_path, monkeypatch):
    path = str(fill(tmp_path, shards=1) / "part-000.tar")
    first = contents(path)
    with monkeypatch.context() as patch:
        patch.setattr(tar, "scan", None)
        again = contents(path)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    write_tar(tmp_path / "part-000.tar", [("9.png", picture(1))])
    assert names(contents(path)) == ["9.png"]


def test_a_damaged_cache_is_replaced(tmp_path):
    path = str(fill(tmp_path, shards=1) / "part-000.tar")
    first = contents(path)
    for kept in (tmp_path / "cache/shards/index").iterdir():
        kept.write_bytes(kept.read_bytes()[:50])
    assert names(contents(path)) == names(first)
