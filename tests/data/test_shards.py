from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
import tracemalloc
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from tests.data.tars import fill, levels, picture, serving, write_tar
from unlabeled.data import fetch, open_data
from unlabeled.data.fetch import ShardCache
from unlabeled.data.shardindex import write_index
from unlabeled.data.shards import Shards, _fields, _read_listing, _records, _splits, _store
from unlabeled.data.stream import Loader, Stream
from unlabeled.recipe import describe, rebuild


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNLABELED_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetch, "PAUSE", 0.01)
    for kept in (_read_listing, _splits, _store, _records):
        kept.cache_clear()


def everything(source, split="all"):
    samples = source.split(split)
    return samples.__getitems__(list(range(len(samples))))


# On a disk ---------------------------------------------------------------------------------------


def test_samples_are_read_by_place_with_labels_and_names(tmp_path):
    source = Shards(str(fill(tmp_path / "s")))
    batch = source.split("all").__getitems__([29, 0, 7])
    assert levels(batch) == [29, 0, 7]
    assert batch["index"].tolist() == [29, 0, 7]
    assert batch["label"].tolist() == [29 % 3, 0, 7 % 3]
    assert batch["path"][2] == f"{tmp_path}/s/part-001.tar/0001.png"
    assert source.classes == ("0", "1", "2")
    assert source.spec().channels == 3


def test_patterns_folders_lists_and_globs_mean_the_same_shards(tmp_path):
    fill(tmp_path / "s", labels=False)
    (tmp_path / "s/list.txt").write_text("# shards\npart-{000..003}.tar\npart-004.tar\n")
    expected = levels(everything(open_data(str(tmp_path / "s/part-{000..004}.tar"))))
    assert expected == list(range(30))
    shutil.copy(tmp_path / "s/list.txt", tmp_path / "list.txt")
    for text in ("s/part-*.tar", "s/list.txt", "s/part-{000..002}.tar"):
        source = open_data(str(tmp_path / text), image_size=8)
        assert isinstance(source, Shards)
        assert levels(everything(source)) == expected[: source.size("all")]
    os.remove(tmp_path / "s/list.txt")
    assert levels(everything(open_data(str(tmp_path / "s")))) == expected


@pytest.mark.parametrize(
    ("files", "sizes"),
    [
        (("train-0.tar", "train-1.tar", "val-0.tar"), {"train": 12, "test": 6, "all": 18}),
        (("train-0.tar", "val-0.tar", "test-0.tar"), {"train": 6, "val": 6, "test": 6, "all": 18}),
        (("train/0.tar", "test/0.tar"), {"train": 6, "test": 6, "all": 12}),
        (("imagenet1k-train-0.tar", "imagenet1k-validation-0.tar"), {"train": 6, "test": 6}),
        (("train-0.tar", "test-0.tar", "more.tar"), {"train": 6, "test": 6, "all": 12}),
        (("train-0.tar", "train-1.tar"), {"train": 12, "all": 12}),
        (("test-0.tar", "test-1.tar"), {"train": 12, "all": 12}),
    ],
)
def test_shards_named_after_splits_are_splits(tmp_path, files, sizes):
    for file in files:
        fill(tmp_path, shards=1, labels=False, name=file)
    source = open_data(str(tmp_path))
    assert {split: source.size(split) for split in sizes} == sizes


def test_labeled_shards_without_splits_hold_out_a_fifth_that_stays(tmp_path):
    source = Shards(str(fill(tmp_path / "s", shards=20)))
    held = set(levels(everything(source, "test")))
    assert 10 < len(held) < 40
    assert set(levels(everything(source, "train"))) == set(range(120)) - held
    part = Shards(str(tmp_path / "s/part-{003..012}.tar"))
    assert set(levels(everything(part, "test"))) == {n for n in held if 18 <= n < 78}


def test_without_labels_all_is_train(tmp_path):
    source = Shards(str(fill(tmp_path, labels=False)))
    assert source.size("train") == 30
    assert source.classes is None
    assert "label" not in everything(source)
    with pytest.raises(ValueError, match=r"no split 'test' .no labels.*it has train, all"):
        source.split("test")


def test_labels_may_be_names_and_numbers_sort_as_numbers(tmp_path):
    members = [(f"{n}.{end}", picture(n) if end == "png" else str(n).encode())
               for n in (10, 9, 2) for end in ("png", "cls")]  # fmt: skip
    assert Shards(str(write_tar(tmp_path / "a.tar", members))).classes == ("2", "9", "10")
    members = [(f"{n}.{end}", picture(n) if end == "png" else (b"dog", b"cat")[n % 2])
               for n in range(4) for end in ("png", "cls")]  # fmt: skip
    source = Shards(str(write_tar(tmp_path / "b.tar", members)))
    assert everything(source)["label"].tolist() == [1, 0, 1, 0]


def test_a_missing_label_is_named_or_labels_stay_unread(tmp_path):
    fill(tmp_path, shards=2)
    write_tar(tmp_path / "part-002.tar", [("7.png", picture(7)), ("8.png", picture(8))])
    with pytest.raises(ValueError, match=r"part-002\.tar: 7\.png has no label .*nor have 1 others"):
        Shards(str(tmp_path)).size("train")
    assert replace(Shards(str(tmp_path)), labels=False).size("train") == 14


def test_missing_empty_and_pictureless_shards_are_named(tmp_path, caplog):
    fill(tmp_path / "s", shards=3)
    with pytest.raises(FileNotFoundError, match=r"part-003\.tar does not exist \(2 of 5 shards"):
        Shards(str(tmp_path / "s/part-{000..004}.tar"))
    write_tar(tmp_path / "s/part-003.tar", [])
    write_tar(tmp_path / "s/part-004.tar", [("a.txt", b"x"), ("b.cls", b"1")])
    with caplog.at_level(logging.WARNING):
        assert Shards(str(tmp_path / "s")).size("all") == 18
    assert "2 shards hold no images, such as" in caplog.text
    with pytest.raises(ValueError, match=r"part-003.tar and the other shards hold no images"):
        Shards(str(tmp_path / "s/part-{003..004}.tar")).size("all")
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds no \.tar files"):
        Shards(str(tmp_path / "none"))


def test_images_that_cannot_be_read_are_named_and_replaced_by_the_next(tmp_path, caplog):
    members = [(f"{n}.png", picture(n)) for n in range(40)]
    members[5] = ("5.png", b"no image at all")
    members[6] = ("6.png", picture(6)[:45])
    source = Shards(str(write_tar(tmp_path / "a.tar", members)))
    with caplog.at_level(logging.WARNING):
        batch = source.split("train").__getitems__([4, 5, 6])
    assert levels(batch) == [4, 7, 7]
    assert batch["index"].tolist() == [4, 5, 6]
    assert f"{tmp_path}/a.tar/5.png cannot be read (no image, starts with" in caplog.text
    everything(source)
    assert len([line for line in caplog.messages if "a.tar/5.png" in line]) == 1


def test_too_many_bad_images_stop_the_run(tmp_path):
    members = [(f"{n}.png", picture(n) if n < 30 else b"bad") for n in range(60)]
    source = Shards(str(write_tar(tmp_path / "a.tar", members)))
    with pytest.raises(ValueError, match=r"\d+ of 60 files cannot be read, more than 1 %"):
        everything(source)


def test_a_shard_that_changes_or_goes_while_in_use_is_named(tmp_path):
    source = Shards(str(fill(tmp_path, shards=2)), cache_bytes=0)
    source.split("all")
    path = tmp_path / "part-000.tar"
    content = path.read_bytes()
    path.write_bytes(content[:700])
    with pytest.raises(ValueError, match=r"part-000\.tar is shorter than it was"):
        everything(source)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"part-000\.tar was there and is gone"):
        everything(source)


def test_a_folder_of_images_with_a_tar_beside_them_stays_a_folder(tmp_path):
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(picture(1))
    write_tar(tmp_path / "backup.tar", [])
    assert not isinstance(open_data(str(tmp_path)), Shards)


def test_the_epoch_reads_shards_in_turn_and_every_train_sample_once(tmp_path):
    source = Shards(str(fill(tmp_path, shards=20)), window=3)
    order = source.epoch_order(seed=1, epoch=0)
    assert order.sort().values.tolist() == list(range(source.size("train")))
    assert torch.equal(order, source.epoch_order(seed=1, epoch=0))
    paths = source.split("train").__getitems__(order.tolist())["path"]
    shards = [os.path.dirname(path) for path in paths]
    for at in range(0, len(shards), 8):
        assert len(set(shards[at : at + 8])) <= 3 + 1 + 2
    ahead = {shard: shards.index(shard) for shard in set(shards)}
    back = {shard: len(shards) - shards[::-1].index(shard) for shard in set(shards)}
    assert max(back[shard] - ahead[shard] for shard in ahead) < len(shards) / 2


def test_ranks_see_each_sample_once(tmp_path):
    source = Shards(str(fill(tmp_path, shards=12, labels=False)), window=3)
    seen = []
    for rank in range(2):
        stream = Stream(
            72, batch_size=12, steps=6, accumulate=1, seed=0, rank=rank, ranks=2,
            order=source.epoch_order,
        )  # fmt: skip
        seen += [level for batch in Loader(source, stream) for level in levels(batch)]
    assert sorted(seen) == list(range(72))


def test_files_are_closed_and_memory_does_not_grow_with_the_shards(tmp_path):
    source = Shards(str(fill(tmp_path, shards=40, samples=6)), window=2, cache_bytes=0)
    samples = source.split("all")
    samples.__getitems__([0])
    before = len(os.listdir("/proc/self/fd"))
    tracemalloc.start()
    for at in range(0, 240, 12):
        samples.__getitems__(list(range(at, at + 12)))
        if at == 60:
            early = tracemalloc.get_traced_memory()[0]
    grown = tracemalloc.get_traced_memory()[0] - early
    tracemalloc.stop()
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(_records(_fields(source))._contents) <= 2 + 1 + 3
    assert grown < 50_000


def test_decoded_images_are_kept_up_to_a_size(tmp_path):
    for cache_bytes, most in ((0, 0), (10_000, 6), (10**9, 30)):
        source = Shards(str(fill(tmp_path, labels=False)), cache_bytes=cache_bytes)
        everything(source)
        store = source.split("all").store
        assert len(store._kept) <= most
        assert store._bytes <= cache_bytes


def test_a_recipe_stores_and_rebuilds_it(tmp_path):
    source = Shards(str(fill(tmp_path)), window=3)
    assert rebuild(describe(source)) == source
    assert source.at(64).image_size == 64


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("x/train-{000..099}.tar", "train"),
        ("photos/", "photos"),
        ("x/photos_*.tar", "photos"),
        ("http://x.org/birds/index.json", "birds"),
    ],
)
def test_the_name_has_no_numbers(tmp_path, monkeypatch, pattern, name):
    monkeypatch.setattr("unlabeled.data.shards.find_shards", lambda pattern: [])
    assert Shards(pattern).name == name


# On a server -------------------------------------------------------------------------------------


def remote(tmp_path, url, **options):
    return Shards(f"{url}part-{{000..019}}.tar", **{"window": 2, "cache_bytes": 0, **options})


@pytest.fixture
def twenty(tmp_path):
    fill(tmp_path / "s", shards=20)
    write_index(str(tmp_path / "s"))
    return tmp_path / "s"


def folder_size(tmp_path):
    folder = tmp_path / "cache/shards/fetched"
    sizes = []
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # renamed while we look: a shard is whole
            sizes.append(path.stat().st_size)
    return sum(sizes)


def test_a_server_gives_what_the_disk_has(tmp_path, twenty):
    local = Shards(str(twenty), window=2)
    with serving(twenty) as server:
        source = remote(tmp_path, server.url)
        assert source.classes == local.classes
        for split in ("train", "test", "all"):
            mine, theirs = everything(source, split), everything(local, split)
            assert torch.equal(mine["views"][0], theirs["views"][0])
            assert mine["label"].tolist() == theirs["label"].tolist()
        order = source.epoch_order(seed=1, epoch=1)
        assert torch.equal(order, local.epoch_order(seed=1, epoch=1))
        by_json = Shards(f"{server.url}index.json")
        assert by_json.size("all") == 120
        (tmp_path / "urls.txt").write_text(f"{server.url}part-{{000..019}}.tar\n")
        assert open_data(str(tmp_path / "urls.txt")).size("all") == 120


def test_an_epoch_fetches_each_shard_once_ahead_of_use_within_the_limit(tmp_path, twenty):
    length = (twenty / "part-000.tar").stat().st_size
    limit = 6 * length
    with serving(twenty) as server:
        most = []
        server.look = lambda: most.append(folder_size(tmp_path))
        source = remote(tmp_path, server.url, disk_bytes=limit)
        source.spec()
        server.asked.clear()
        stream = Stream(
            source.size("train"), batch_size=8, steps=11, accumulate=1, seed=0,
            order=source.epoch_order,
        )  # fmt: skip
        for _ in Loader(source, stream):
            most.append(folder_size(tmp_path))
        asked = [name for name in server.asked if name.endswith(".tar")]
        assert len(asked) == len(set(asked)) >= 18
        assert max(most) <= limit


def test_the_order_of_use_is_known_to_the_nanosecond(tmp_path, twenty):
    with serving(twenty) as server:
        records = _records(_fields(remote(tmp_path, server.url, disk_bytes=10**9)))
        for shard in records.shards:
            records.cache.prefetch(shard)
            records.cache.path(shard)
        again = ShardCache(records.cache.folder, limit=10**9, together=6)  # as another process
        dates = [again.path(shard).stat().st_mtime_ns for shard in records.shards]
        assert all(early < late for early, late in pairwise(dates))


def test_a_shard_is_fetched_while_the_one_before_is_used(tmp_path, twenty):
    with serving(twenty) as server:
        source = remote(tmp_path, server.url)
        samples = source.split("all")
        server.asked.clear()
        samples.__getitems__([20])  # in the fourth shard
        records = _records(_fields(source))
        fifth = records.cache._file(records.shards[4])
        for _ in range(200):
            if fifth.exists():
                break
            time.sleep(0.01)
            samples.__getitems__([20])  # one is fetched ahead at a time
        assert fifth.exists()
        assert not records.cache._file(records.shards[5]).exists()


def test_a_limit_that_cannot_hold_a_window_is_refused(tmp_path, twenty):
    with serving(twenty) as server:
        source = remote(tmp_path, server.url, disk_bytes=20_000)
        with pytest.raises(ValueError, match=r"6 shards must fit.*data\.disk_bytes=\d+, or a sm"):
            source.spec()


def test_without_an_index_a_server_is_asked_for_it_by_command(tmp_path):
    fill(tmp_path / "s", shards=2)
    with serving(tmp_path / "s") as server:
        source = Shards(f"{server.url}part-000.tar")
        with pytest.raises(FileNotFoundError, match=r"index\.json is not there.*data index"):
            source.size("train")


def test_webdatasets_own_index_gives_sizes_and_no_labels(tmp_path):
    fill(tmp_path / "s", shards=2)
    (tmp_path / "s/index.json").write_text(
        '{"__kind__": "wids-shard-index-v1", "shardlist": '
        '[{"url": "part-000.tar", "nsamples": 6}, {"url": "part-001.tar", "nsamples": 5}]}'
    )
    with serving(tmp_path / "s") as server:
        source = Shards(f"{server.url}part-{{000..001}}.tar")
        assert source.classes is None
        assert source.size("train") == 11
        with pytest.raises(ValueError, match=r"part-001\.tar holds 6 images, its index says 5"):
            everything(source)
        with pytest.raises(ValueError, match=r"part-002\.tar is not in the index"):
            Shards(f"{server.url}part-002.tar").size("train")


def test_a_missing_shard_and_a_server_that_is_gone_are_named(tmp_path, twenty):
    (twenty / "part-000.tar").unlink()
    with serving(twenty) as server:
        source = remote(tmp_path, server.url)
        with pytest.raises(OSError, match=r"/part-000\.tar is not there \(HTTP 404\)"):
            source.spec()
        assert server.asked.count("part-000.tar") == 1  # trying again does not help
        url = server.url
    with pytest.raises(OSError, match=rf"{url}index\.json cannot be fetched after 5 attempts"):
        Shards(f"{url}part-001.tar").size("train")


def test_dropped_connections_and_busy_servers_are_tried_again(tmp_path, twenty, caplog):
    (twenty / "index.json").write_text('{"part-000.tar": 6, "part-001.tar": 6}')
    with serving(twenty) as server:
        server.faults = {"part-000.tar": ["drop", 503], "index.json": [500]}
        source = Shards(f"{server.url}part-{{000..001}}.tar")
        assert sorted(levels(everything(source))) == list(range(12))
        assert server.asked.count("part-000.tar") == 3
        assert "part-000.tar: HTTP 503" in caplog.text
        server.faults = {"part-003.tar": ["drop"] * 5}
        (twenty / "index.json").write_text('{"part-003.tar": 6, "part-004.tar": 6}')
        with pytest.raises(OSError, match=r"part-003\.tar cannot be fetched after 5 attempts"):
            Shards(f"{server.url}part-{{003..004}}.tar").spec()
    assert not [p for p in (tmp_path / "cache/shards/fetched").iterdir() if p.suffix == ".part"]


def test_content_that_is_not_the_indexs_is_refused(tmp_path, twenty):
    content = bytearray((twenty / "part-000.tar").read_bytes())
    content[600] ^= 1
    (twenty / "part-000.tar").write_bytes(content)
    with serving(twenty) as server:
        with pytest.raises(OSError, match=r"part-000\.tar cannot be .*its sha256 is not the index"):
            remote(tmp_path, server.url).spec()
        (twenty / "part-000.tar").write_bytes(content[:-512])
        _store.cache_clear()
        with pytest.raises(ValueError, match=r"part-000\.tar is [\d,]+ bytes, the index says"):
            remote(tmp_path, server.url).spec()


def test_messages_keep_keys_to_themselves(tmp_path, twenty):
    with serving(twenty) as server:
        url = server.url.replace("http://", "http://user:secret@")
        with pytest.raises(OSError) as caught:  # noqa: PT011
            Shards(f"{url}gone/part-000.tar?key=secret").size("train")
        assert "secret" not in str(caught.value)


def test_nothing_is_asked_of_the_network_before_the_first_use():
    assert Shards("http://127.0.0.1:9/a-{000..009}.tar").name == "a"
