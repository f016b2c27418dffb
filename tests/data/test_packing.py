from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unlabeled.cli import main
from unlabeled.data import folder, open_data, packing, packwriter
from unlabeled.data.folder import ImageFolder
from unlabeled.data.packed import PackedImages, open_pack, verify
from unlabeled.data.packing import pack

RANDOM = np.random.default_rng(0)


def picture(path, side=40):
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = RANDOM.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((side + 8, side)).save(path)


def fill(root, count, side=40):
    for place in range(count):
        picture(root / "ab"[place % 2] / f"{place:03}.png", side + place % 3)
    return ImageFolder(str(root))


def content(pack_folder):
    return {
        path.name: path.read_bytes() for path in sorted(pack_folder.iterdir()) if path.is_file()
    }


def stop_after(monkeypatch, count, error=KeyboardInterrupt):
    """Let decoding fail at a file; what was written before is on the disk, as after a kill."""
    real, seen = packwriter.PackWriter.add, []

    def add(self, path, status, image):
        if len(seen) == count:
            self.commit()
            raise error
        seen.append(path)
        real(self, path, status, image)

    monkeypatch.setattr(packwriter.PackWriter, "add", add)
    return lambda: monkeypatch.setattr(packwriter.PackWriter, "add", real)


def test_a_killed_process_continues_to_the_same_bytes(tmp_path):
    """kill -9 in the middle of a pack, then the same command."""
    fill(tmp_path / "in", 300, side=300)
    pack(ImageFolder(str(tmp_path / "in")), tmp_path / "straight", size=64)
    command = [
        *(sys.executable, "-c"),
        "import sys, time\n"
        "from unlabeled.data import packing, packwriter\n"
        "from unlabeled.data.folder import ImageFolder\n"
        "packwriter.COMMIT_SECONDS, packing.WINDOW = 0.0, 4\n"
        "def slow(done, total):\n    time.sleep(0.03)\n"
        "packing.pack(ImageFolder(sys.argv[1]), sys.argv[2], size=64, progress=slow)\n",
        *(str(tmp_path / "in"), str(tmp_path / "out")),
    ]
    process = subprocess.Popen(command)
    journal = tmp_path / "out.part" / "journal.jsonl"
    deadline = time.monotonic() + 120
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 20):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = journal.read_bytes().count(b"\n")
    assert 20 < done < 300
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="is an unfinished pack: repeat"):
        open_data(str(tmp_path / "out.part"))
    with pytest.raises(FileNotFoundError):
        PackedImages(str(tmp_path / "out.part"))
    read = []
    real = packing.read_image
    packing.read_image = lambda path, target: read.append(path) or real(path, target)
    try:
        pack(ImageFolder(str(tmp_path / "in")), tmp_path / "out", size=64)
    finally:
        packing.read_image = real
    assert len(read) == 300 - done
    assert content(tmp_path / "out") == content(tmp_path / "straight")
    assert not (tmp_path / "out.part").exists()


def test_what_has_changed_since_is_packed_again(tmp_path, monkeypatch, caplog):
    source = fill(tmp_path / "in", 40)
    undo = stop_after(monkeypatch, 30)
    with pytest.raises(KeyboardInterrupt):
        pack(source, tmp_path / "out", size=32)
    undo()
    picture(tmp_path / "in/a/008.png", 50)  # the fifth of the list
    (tmp_path / "in/b/039.png").unlink()
    picture(tmp_path / "in/b/100.png")
    folder._open.cache_clear()
    folder._listed.cache_clear()
    files = ImageFolder(str(tmp_path / "in"))
    with caplog.at_level(logging.INFO, "unlabeled"):
        pack(files, tmp_path / "out", size=32)
    assert "continues after 4 of 40 files; what follows has changed since" in caplog.text
    pack(files, tmp_path / "straight", size=32)
    assert content(tmp_path / "out") == content(tmp_path / "straight")


@pytest.mark.parametrize("damage", ["cut pixels", "cut line", "other size", "no plan"])
def test_a_half_pack_is_trusted_as_far_as_it_is_whole(tmp_path, monkeypatch, damage):
    source = fill(tmp_path / "in", 40)
    pack(source, tmp_path / "straight", size=32)
    undo = stop_after(monkeypatch, 30)
    with pytest.raises(KeyboardInterrupt):
        pack(source, tmp_path / "out", size=24 if damage == "other size" else 32)
    undo()
    part = tmp_path / "out.part"
    if damage == "cut pixels":
        os.truncate(part / "pixels.bin", 40_000)
    elif damage == "cut line":
        os.truncate(part / "journal.jsonl", (part / "journal.jsonl").stat().st_size - 9)
    elif damage == "no plan":
        (part / "unfinished.json").unlink()
    pack(source, tmp_path / "out", size=32)
    assert content(tmp_path / "out") == content(tmp_path / "straight")


def test_nothing_is_overwritten_unasked(tmp_path):
    source = fill(tmp_path / "in", 6)
    pack(source, tmp_path / "out", size=32)
    before = content(tmp_path / "out")
    with pytest.raises(ValueError, match="exists: choose another --out, or --overwrite"):
        pack(source, tmp_path / "out", size=16)
    assert content(tmp_path / "out") == before
    assert pack(source, tmp_path / "out", size=16, overwrite=True).spec().size == 16
    assert open_pack(str(tmp_path / "out")).rows["height"].max() == 16
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="it is no pack, so it is not overwritten"):
        pack(source, tmp_path / "mine", size=16, overwrite=True)


def test_a_stop_while_replacing_leaves_the_old_pack(tmp_path, monkeypatch):
    source = fill(tmp_path / "in", 6)
    pack(source, tmp_path / "out", size=32)
    before = content(tmp_path / "out")
    stop_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        pack(source, tmp_path / "out", size=16, overwrite=True)
    assert content(tmp_path / "out") == before


def test_unreadable_files_are_named_and_left_out(tmp_path, caplog):
    source = fill(tmp_path / "in", 20)
    (tmp_path / "in/a/zero.png").write_bytes(b"")
    whole = (tmp_path / "in/b/001.png").read_bytes()
    (tmp_path / "in/b/001.png").write_bytes(whole[: len(whole) // 2])
    with caplog.at_level(logging.WARNING, "unlabeled"):
        packed = pack(source, tmp_path / "out", size=32)
    assert packed.size("all") == 19
    assert "zero.png (empty file)" in caplog.text
    assert "b/001.png cannot be read (" in caplog.text
    assert "it is left out" in caplog.text
    facts = open_pack(str(tmp_path / "out")).facts
    assert set(facts["unreadable"]) == {"a/zero.png", "b/001.png"}
    for split in ("train", "test"):  # where each file lies does not depend on the others
        ours = packed.split(split)
        theirs = source.split(split)
        paths = [theirs.store.paths[place] for place in theirs.places.tolist()]
        found = [ours.pack.names[place] for place in ours.places.tolist()]
        assert found == [path for path in paths if path != "b/001.png"]


def test_more_than_one_percent_of_them_stop_it(tmp_path):
    source = fill(tmp_path / "in", 40)
    for place in range(0, 24, 2):
        path = tmp_path / f"in/a/{place:03}.png"
        path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"11 of 40 files cannot be read, more than 1 %"):
        pack(source, tmp_path / "out", size=32)
    assert not (tmp_path / "out").exists()


def test_deep_sources_are_refused_unless_rounding_is_asked_for(tmp_path):
    for place in range(4):
        (tmp_path / "in").mkdir(exist_ok=True)
        deep = np.full((40, 40), 257 * 10 * place, np.uint16)
        Image.fromarray(deep).save(tmp_path / f"in/{place}.png")
    source = ImageFolder(str(tmp_path / "in"))
    with pytest.raises(ValueError, match=r"more than 8 bits a channel.*--eight-bit"):
        pack(source, tmp_path / "out")
    packed = pack(source, tmp_path / "out", eight_bit=True)
    images = packed.split("train").__getitems__([0, 1, 2, 3])["views"][0]
    assert [int(image.unique()) for image in images] == [0, 10, 20, 30]


@pytest.mark.parametrize("after", [0, 20])
def test_a_full_disk_ends_in_one_line_and_leaves_nothing_that_opens(tmp_path, monkeypatch, after):
    source = fill(tmp_path / "in", 40)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    undo = stop_after(monkeypatch, after, full)
    with pytest.raises(OSError, match=r"no room to write .*out\.part.*repeat the command") as error:
        pack(source, tmp_path / "out", size=32)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="unfinished pack"):
        open_data(str(tmp_path / "out.part"))
    undo()
    assert pack(source, tmp_path / "out", size=32).size("all") == 40
    assert verify(str(tmp_path / "out"))["damaged"] == []


def test_a_really_full_file_system_too(tmp_path):
    """The limit of a process on the size of a file stands in for the disk's."""
    fill(tmp_path / "in", 40, side=200)
    code = (
        "import resource, sys\n"
        "from unlabeled.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        "main(['data', 'pack', sys.argv[1], '--out', sys.argv[2], '--size', '128'])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "in"), str(tmp_path / "out")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert found.stderr.count("\n") == 1
    assert "no room to write" in found.stderr
    assert not (tmp_path / "out").exists()


def test_what_cannot_fit_is_refused_before_the_work(tmp_path, monkeypatch):
    source = fill(tmp_path / "in", 6)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(packing.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"needs about 0\.0 GB more, 0\.0 GB are free"):
        pack(source, tmp_path / "out", size=32)


def test_two_processes_do_not_write_one_pack(tmp_path):
    source = fill(tmp_path / "in", 6)
    written = pytest.raises(ValueError, match="is being written by another process")
    with packwriter.locked(tmp_path / "out.part"), written:
        pack(source, tmp_path / "out", size=32)
    pack(source, tmp_path / "out", size=32)


def test_the_command_line_packs_shows_verifies_and_trains(tmp_path, capsys, monkeypatch):
    fill(tmp_path / "in", 40)
    monkeypatch.chdir(tmp_path)

    def run(*arguments, status=0):
        with pytest.raises(SystemExit) as stop:
            main(list(arguments))
        assert (stop.value.code or 0) == status
        return capsys.readouterr()

    facts = json.loads(run("data", "pack", "in", "--size", "32", "--out", "p", "--json").out)
    assert facts["images"] == facts["splits"]["all"] == 40
    assert facts["bytes"] == Path("p/pixels.bin").stat().st_size
    assert json.loads(run("data", "info", "p", "--json").out)["train"] == facts["splits"]["train"]
    assert "40 images" in run("data", "verify", "p").out
    assert "exists: choose another" in run("data", "pack", "in", "--out", "p", status=1).err
    start = open_pack("p").rows["start"][7]
    with open("p/pixels.bin", "r+b") as file:
        file.seek(int(start))
        byte = file.read(1)[0]
        file.seek(int(start))
        file.write(bytes([byte ^ 128]))
    shown = run("data", "verify", "p", "--json", status=1)
    assert json.loads(shown.out)["damaged"] == [open_pack("p").names[7]]
    assert "1 of 40 images are damaged" in shown.err
    run("data", "pack", "in", "--out", "p", "--size", "32", "--overwrite")
    assert "all as packed" in run("data", "verify", "p").out
    assert "lies in memory already" in run("data", "pack", "digits", "--out", "q", status=1).err
