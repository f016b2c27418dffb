from __future__ import annotations

import io
import struct
import subprocess
from zlib import crc32

import pytest
import torch
from PIL import Image

from unlabeled.data import emoji as module
from unlabeled.data.emoji import Emoji, find, get, listed
from unlabeled.data.font import Font

LIST = """# group: Smileys & Emotion
# subgroup: face-smiling
1F600 ; fully-qualified # E1.0 grinning face
2601 FE0F ; fully-qualified # E0.6 cloud
2601 ; unqualified # E0.6 cloud
# group: Flags
1F1E6 1F1E8 ; fully-qualified # E2.0 flag
1F44B 1F3FB ; fully-qualified # E1.0 waving hand: light skin tone
"""
COLORS = {1: (255, 0, 0), 2: (0, 255, 0), 5: (0, 0, 255)}


def png(color, size=(136, 128)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGBA", size, (*color, 255)).save(stream, "PNG")
    return stream.getvalue()


def font_bytes() -> bytes:
    """Glyphs 1, 2 are characters, 3 + 4 join to 5; pictures of 1, 2 and 5, none of 3 and 4."""
    pairs = [(0x1F600, 1), (0x2601, 2), (0x1F1E6, 3), (0x1F1E8, 4)]
    groups = b"".join(struct.pack(">III", point, point, glyph) for point, glyph in sorted(pairs))
    table = struct.pack(">HHIII", 12, 0, 16 + len(groups), 0, len(pairs)) + groups
    cmap = struct.pack(">HHHHI", 0, 1, 3, 10, 12) + table
    ligature = struct.pack(">HHH", 5, 2, 4)
    group = struct.pack(">HH", 1, 4) + ligature
    inner = struct.pack(">HHHH", 1, 8 + len(group), 1, 8) + group + struct.pack(">HHH", 1, 1, 3)
    extension = struct.pack(">HHI", 1, 4, 8) + inner  # the pointer that large fonts have
    lookup = struct.pack(">HHHH", 7, 0, 1, 8) + extension
    gsub = struct.pack(">HHHHH", 1, 0, 10, 10, 10) + struct.pack(">HH", 1, 4) + lookup
    pictures = [png(COLORS[glyph]) for glyph in (1, 2, 5)]
    images = [bytes(5) + struct.pack(">I", len(each)) + each for each in pictures]
    cbdt = struct.pack(">HH", 3, 0) + b"".join(images)
    ends = [0, len(images[0]), len(images[0]) + len(images[1])]
    ends += [ends[-1]] * 2 + [ends[-1] + len(images[2])]
    sub = struct.pack(">HHI", 1, 17, 4) + struct.pack(">6I", *ends)
    array = struct.pack(">HHI", 1, 5, 8) + sub
    sizes = struct.pack(">IIII", 56, len(array), 1, 0) + bytes(32)
    cblc = struct.pack(">HHI", 3, 0, 1) + sizes + array
    tables = {b"CBDT": cbdt, b"CBLC": cblc, b"GSUB": gsub, b"cmap": cmap}
    head, body = struct.pack(">IHHHH", 0x10000, len(tables), 0, 0, 0), b""
    start = len(head) + 16 * len(tables)
    for tag, content in tables.items():
        head += struct.pack(">4sIII", tag, 0, start + len(body), len(content))
        body += content
    return head + body


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("UNLABELED_DATA", str(tmp_path))
    monkeypatch.setattr(module, "DEBIAN_FILES", (tmp_path / "no.ttf", tmp_path / "no.txt"))
    (tmp_path / "emoji").mkdir()
    (tmp_path / "emoji" / "NotoColorEmoji.ttf").write_bytes(font_bytes())
    (tmp_path / "emoji" / "emoji-test.txt").write_text(LIST, encoding="utf-8")
    return tmp_path / "emoji"


def test_pictures_of_characters_and_of_sequences(folder):
    font = Font(folder / "NotoColorEmoji.ttf")
    for points, glyph in (((0x1F600,), 1), ((0x2601, 0xFE0F), 2), ((0x1F1E6, 0x1F1E8), 5)):
        assert font.picture(points) == png(COLORS[glyph])
    assert font.picture((0x1F1E6,)) is None  # a glyph without a picture
    assert font.picture((0x41,)) is None
    assert font.picture((0x1F600, 0x2601)) is None


def test_a_file_that_is_no_such_font_is_named(tmp_path):
    for content in (b"", b"hello", font_bytes()[:40], bytes(2000)):
        path = tmp_path / "x.ttf"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"x\.ttf is no color bitmap font: it lacks"):
            Font(path)


def test_the_list_leaves_out_skin_tones_and_unqualified_forms(folder):
    rows = listed(folder / "emoji-test.txt")
    assert [points for points, _ in rows] == [(0x1F600,), (0x2601, 0xFE0F), (0x1F1E6, 0x1F1E8)]
    assert [module.GROUPS[group] for _, group in rows] == [*["Smileys & Emotion"] * 2, "Flags"]
    (folder / "emoji-test.txt").write_text("nothing")
    with pytest.raises(ValueError, match="lists no emoji"):
        listed(folder / "emoji-test.txt")


def test_splits_follow_from_the_code_points_and_pictures_are_squares_on_white(folder):
    module._read.cache_clear()
    keys = {name: crc32(name.encode()) for name in ("1f600", "2601-fe0f", "1f1e6-1f1e8")}
    source = Emoji(image_size=17)
    seen = 0
    for split in ("train", "test"):
        wanted = [key for key in keys.values() if (key % 5 == 0) == (split == "test")]
        samples = source.split(split)
        assert len(samples) == len(wanted) > 0
        seen += len(samples)
        assert samples.images.shape[1:] == (3, 17, 17)
        assert {tuple(image[:, 8, 8].tolist()) for image in samples.images} <= set(COLORS.values())
        assert (samples.images[:, :, 0].float().mean(1) > 80).all()  # a white edge
    assert seen == 3
    module._read.cache_clear()


def test_facts_need_no_files(tmp_path, monkeypatch):
    monkeypatch.setenv("UNLABELED_DATA", str(tmp_path))
    monkeypatch.setattr(module, "DEBIAN_FILES", (tmp_path / "no.ttf", tmp_path / "no.txt"))
    source = Emoji(str(tmp_path / "given"))
    assert (source.size("train"), source.size("test"), len(source.classes)) == (1495, 375, 9)
    assert (source.spec().channels, source.spec().size) == (3, 32)
    with pytest.raises(FileNotFoundError, match=r"given.*run: unlabeled data get emoji"):
        source.split("train")
    for ask in (source.size, source.split):
        with pytest.raises(ValueError, match="no split 'val': it has train, test"):
            ask("val")
    with pytest.raises(ValueError, match="image_size is 200"):
        Emoji(image_size=200)


def test_get_unpacks_both_packages_into_the_cache(folder, monkeypatch):
    assert get() == folder
    kept = {name: (folder / name).read_bytes() for name in module.FILES}
    for name in module.FILES:
        (folder / name).unlink()

    def unpack(packages, work):
        assert packages == module.PACKAGES
        for place, content in zip(module.DEBIAN_FILES, kept.values(), strict=True):
            target = work / place.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        return work

    monkeypatch.setattr(module, "unpack", unpack)
    names = {old.name: new for old, new in zip(module.DEBIAN_FILES, module.FILES, strict=True)}
    monkeypatch.setattr(
        module, "DEBIAN_FILES", tuple(folder.parent / "x" / new for new in names.values())
    )
    assert get() == folder
    assert find()[0].read_bytes() == font_bytes()


def test_get_says_what_was_tried(folder, monkeypatch):
    (folder / "emoji-test.txt").unlink()

    def refused(*args, **kwargs):
        return subprocess.CompletedProcess(args, 100, "", "E: Unable to locate\n")

    monkeypatch.setattr("unlabeled.data.debian.subprocess.run", refused)
    with pytest.raises(OSError, match=r"emoji cannot be had: apt-get.*Unable to locate"):
        get()


def test_the_real_files_have_the_sizes_that_are_told():
    try:
        source = Emoji(find()[0].parent.as_posix())
        module._read.cache_clear()
    except FileNotFoundError:
        pytest.skip("emoji are not here: unlabeled data get emoji")
    for split in ("train", "test"):
        samples = source.split(split)
        assert len(samples) == source.size(split)
        assert samples.images.shape[1:] == (3, 32, 32)
    assert torch.equal(samples.label.unique(), torch.arange(9))
