import json

import pytest

from tests.data.tars import fill
from unlabeled.data.shardindex import parse_index, write_index
from unlabeled.data.shardlist import expand, shown, split_of

PATTERNS = ("a-{000..011}.tar", "a{7..12}b", "{train,val}-{0..1}.tar", "x{a,b{1,2}}", "none.tar",
            "{3..1}", "{01..100}")  # fmt: skip


def test_braces_expand_as_in_a_shell():
    assert expand("a-{008..011}.tar") == [f"a-{n:03d}.tar" for n in range(8, 12)]
    assert expand("{train,val}-{0..1}") == ["train-0", "train-1", "val-0", "val-1"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_braces_expand_as_in_webdataset(pattern):
    braceexpand = pytest.importorskip("braceexpand").braceexpand
    assert sorted(expand(pattern)) == sorted(braceexpand(pattern))


@pytest.mark.parametrize("pattern", ["a{1.tar", "a1}.tar", "a{b}.tar", "a{0..99999999}.tar"])
def test_other_braces_are_refused(pattern):
    with pytest.raises(ValueError, match=r"no partner|no range|more than"):
        expand(pattern)


@pytest.mark.parametrize(
    ("url", "split"),
    [
        ("train-000.tar", "train"), ("s/imagenet1k-validation-00.tar", "val"),
        ("https://x.org/test/0.tar?k=train", "test"), ("test_photos/000.tar", None),
        ("trainee.tar", None), ("Train_1.tar", "train"),
    ],
)  # fmt: skip
def test_a_split_is_a_word_of_the_name_or_the_folder(url, split):
    assert split_of(url) == split


def test_urls_are_shown_without_keys():
    assert shown("https://me:pw@x.org/a.tar?key=1") == "https://x.org/a.tar"
    assert shown("a?b.tar") == "a?b.tar"


def test_an_index_has_samples_bytes_sums_and_classes_and_is_read_back(tmp_path):
    fill(tmp_path, shards=3)
    path, listing = write_index(str(tmp_path))
    assert path == tmp_path / "index.json"
    value = json.loads(path.read_text())
    assert value["__kind__"] == "wids-shard-index-v1"
    assert value["classes"] == ["0", "1", "2"]
    assert [row["nsamples"] for row in value["shardlist"]] == [6, 6, 6]
    assert value["shardlist"][1]["url"] == "part-001.tar"
    assert parse_index(path.read_text(), source="x") == listing


def test_sizes_as_webdataset_writes_them_are_read():
    found = parse_index('{"a.tar": 3, "b.tar": 4}', source="x")
    assert [(shard.url, shard.samples) for shard in found.shards] == [("a.tar", 3), ("b.tar", 4)]


@pytest.mark.parametrize(
    "text", ["<html>", "[1]", '{"shardlist": [{"url": "a"}]}', "3", '{"a": -1}']
)
def test_other_indexes_are_refused(text):
    with pytest.raises(ValueError, match=r"https://x/index\.json is no index of shards"):
        parse_index(text, source="https://x/index.json?k")


def test_shards_of_one_name_and_shards_on_a_server_are_not_indexed(tmp_path):
    for folder in ("a", "b"):
        fill(tmp_path / folder, shards=1)
    with pytest.raises(ValueError, match=r"two shards are called part-000\.tar"):
        write_index(str(tmp_path))
    with pytest.raises(ValueError, match="index shards where they lie"):
        write_index("http://127.0.0.1/a.tar")
