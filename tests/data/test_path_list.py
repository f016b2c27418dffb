from __future__ import annotations

import re

import pytest
from PIL import Image

from unlabeled.data import open_data
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
    assert read_rows(path) == [("in side/4.png", "x", None), ("in side/5.png", "y", None)]


def test_a_column_of_splits_is_obeyed(pictures):
    folder, names = pictures
    parts = ["train"] * 10 + ["Val"] * 4 + ["testing"] * 6
    rows = [
        f"{part},{name},{number % 2}"
        for number, (name, part) in enumerate(zip(names, parts, strict=True))
    ]
    source = PathList(written(folder, "split,path,label\n" + "\n".join(rows), "l.csv"))
    assert [values(source, name)[0] for name in ("train", "val", "test")] == [
        list(range(10)),
        list(range(10, 14)),
        list(range(14, 20)),
    ]


def test_a_parquet_table_is_read_as_a_csv_is(pictures):
    folder, names = pictures
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    label = [place % 2 for place in range(20)]
    table = pyarrow.table({"other": label, "path": names, "label": label})
    parquet.write_table(table, folder / "l.parquet")
    source = open_data(str(folder / "l.parquet"))
    seen, batch = values(source, "all")
    assert seen == list(range(20))
    assert batch["label"].tolist() == label
    parquet.write_table(pyarrow.table({"file": names}), folder / "m.parquet")
    with pytest.raises(ValueError, match=r"has the columns file: it needs one named path"):
        read_rows(str(folder / "m.parquet"))
    (folder / "n.parquet").write_bytes(b"PAR1 this is none PAR1")
    with pytest.raises(ValueError, match=r"n\.parquet cannot be read as Parquet"):
        read_rows(str(folder / "n.parquet"))


def test_commas_in_names_are_no_labels(pictures):
    folder, _ = pictures
    assert read_rows(written(folder, "my, cat.png\nmy, dog.png, dog")) == [
        ("my, cat.png", None, None),
        ("my, dog.png", "dog", None),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "lists no images: write one path a line"),
        ("# only\n\n", "lists no images"),
        ("in side/1.png,a\nin side/2.png\n", "1 of 2 lines have no label, the first is in side/2"),
        ("in side/1.png\nin side/1.png\n", "lists in side/1.png more than once"),
        ("in side/1.png,a\nin side/2.png,\n", "1 of 2 lines have no label"),
        ("gone.png\n", r"no image can be read: gone\.png \(missing\)"),
    ],
)
def test_what_is_wrong_is_named(pictures, text, words):
    path = written(pictures[0], text)
    with pytest.raises(ValueError, match=f"{re.escape(path)}.*{words}"):
        PathList(path).split("train")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "path,split\nin side/1.png,train\nin side/2.png,hold\n",
            "split of in side/2.png is 'hold'",
        ),
        ("path,split\nin side/1.png,test\nin side/2.png,test\n", "no line of the split train"),
        ("path,split\nin side/1.png,train\nin side/2.png,\n", "1 of 2 lines have no split"),
    ],
)
def test_splits_that_mean_nothing_are_named(pictures, text, words):
    with pytest.raises(ValueError, match=words):
        PathList(written(pictures[0], text, "l.csv")).split("train")


def test_other_files_are_refused(pictures):
    folder, names = pictures
    (folder / "list.txt").write_bytes((folder / names[0]).read_bytes())
    with pytest.raises(ValueError, match="is no UTF-8 text"):
        PathList(str(folder / "list.txt")).split("train")
    with pytest.raises(FileNotFoundError, match=r"gone\.txt does not exist"):
        PathList(str(folder / "gone.txt"))
    with pytest.raises(ValueError, match="has no column 3, where paths are"):
        read_rows(written(folder, "id,label,path\n1,x\n", "l.csv"))
