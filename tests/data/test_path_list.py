from __future__ import annotations

import re

import pytest
from PIL import Image

from unlabeled.data.paths import PathList, read_rows


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "in side").mkdir()
    names = [f"in side/{place}.png" for place in range(20)]
    for place, name in enumerate(names):
        Image.new("L", (40, 40), place).save(tmp_path / name)
    return tmp_path, names


def written(folder, text, name="list.txt"):
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def values(source, split):
    samples = source.split(split)
    batch = samples.__getitems__(list(range(len(samples))))
    return [int(image.float().mean()) for image in batch["views"][0]], batch


def test_paths_are_relative_to_the_list_and_keep_its_order(pictures):
    folder, names = pictures
    absolute = str(folder / names[0])
    text = f"# a comment\n\n{names[3]}\n  \n{absolute}\n{names[7]}\n"
    source = PathList(written(folder, text))
    assert values(source, "train")[0] == [3, 0, 7]
    assert source.classes is None
    assert source.name == "list"
    assert (source.spec().channels, source.spec().size) == (1, 32)


@pytest.mark.parametrize(
    ("name", "head", "mark"),
    [("l.txt", "", "\t"), ("l.txt", "", ","), ("l.csv", "", ","), ("l.csv", "path,label\n", ",")],
)
def test_labels_follow_a_tab_or_comma(pictures, name, head, mark):
    folder, names = pictures
    rows = [f"{name}{mark}{'odd' if place % 2 else 'even'}" for place, name in enumerate(names)]
    source = PathList(written(folder, head + "\n".join(rows), name))
    assert source.classes == ("even", "odd")
    seen, batch = values(source, "all")
    assert batch["label"].tolist() == [value % 2 for value in seen]
    assert source.size("train") + source.size("test") == 20
    assert source.size("test") > 0


def test_columns_may_come_in_any_order(pictures):
    folder, _ = pictures
    path = written(folder, 'id,label,path\n1,x,"in side/4.png"\n2,y,in side/5.png\n', "l.csv")
    assert read_rows(path) == [("in side/4.png", "x"), ("in side/5.png", "y")]


def test_commas_in_names_are_no_labels(pictures):
    folder, _ = pictures
    assert read_rows(written(folder, "my, cat.png\nmy, dog.png, dog")) == [
        ("my, cat.png", None),
        ("my, dog.png", "dog"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "lists no images: write one path a line"),
        ("# only\n\n", "lists no images"),
        ("in side/1.png,a\nin side/2.png\n", "1 of 2 lines have no label, the first is in side/2"),
        ("in side/1.png\nin side/1.png\n", "lists in side/1.png more than once"),
        ("gone.png\n", r"no image can be read: gone\.png \(missing\)"),
    ],
)
def test_what_is_wrong_is_named(pictures, text, words):
    path = written(pictures[0], text)
    with pytest.raises(ValueError, match=f"{re.escape(path)}.*{words}"):
        PathList(path).split("train")


def test_other_files_are_refused(pictures):
    folder, names = pictures
    (folder / "list.txt").write_bytes((folder / names[0]).read_bytes())
    with pytest.raises(ValueError, match="is no UTF-8 text"):
        PathList(str(folder / "list.txt")).split("train")
    with pytest.raises(FileNotFoundError, match=r"gone\.txt does not exist"):
        PathList(str(folder / "gone.txt"))
    with pytest.raises(ValueError, match="has no column 3, where paths are"):
        read_rows(written(folder, "id,label,path\n1,x\n", "l.csv"))
