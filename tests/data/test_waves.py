import logging
import sys
import wave

import numpy as np
import pytest
import torch

from tests.speech import write_speech, write_wav
from unlabeled.data import open_data
from unlabeled.data.images import cache_folder
from unlabeled.data.librispeech import LibriSpeech
from unlabeled.data.source import WaveSpec
from unlabeled.data.waves import WaveFolder, read_wave

TONE = 0.5 * np.sin(np.arange(800) * 2 * np.pi * 200 / 8000)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_pcm_of_all_widths_reads_alike(tmp_path, width):
    path = tmp_path / "a.wav"
    whole = np.rint(TONE * (2 ** (8 * width - 1) - 1)).astype(np.int64)
    if width == 1:
        content = (whole + 128).astype(np.uint8).tobytes()
    else:
        content = b"".join(int(v).to_bytes(width, "little", signed=True) for v in whole)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(width)
        file.setframerate(8000)
        file.writeframes(content)
    found = read_wave(path, rate=8000).float() / 32768
    assert np.abs(found.numpy() - TONE).max() < (0.01 if width == 1 else 1e-4)


def test_channels_are_mixed_and_rates_are_changed(tmp_path):
    write_wav(tmp_path / "a.wav", np.stack([TONE, np.zeros_like(TONE)], 1))
    found = read_wave(tmp_path / "a.wav", rate=16_000).float().numpy() / 32768
    assert len(found) == 1600
    expected = 0.25 * np.sin(np.arange(1600) * 2 * np.pi * 200 / 16_000)
    assert np.abs(found - expected)[200:-200].max() < 0.01


def test_damaged_and_compressed_files_are_named(tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(b"RIFF....")
    with pytest.raises(ValueError, match=r"a\.wav cannot be read as PCM"):
        read_wave(tmp_path / "a.wav", rate=8000)
    (tmp_path / "b.flac").write_bytes(b"fLaC")
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ImportError, match=r"pip install 'unlabeled\[speech\]'"):
        read_wave(tmp_path / "b.flac", rate=8000)


def test_folders_are_labels_and_an_utterance_is_on_one_side_for_all_speakers(tmp_path):
    write_speech(tmp_path, speakers=3, each=10, phones=2)
    source = WaveFolder(str(tmp_path), rate=8000, length=512)
    assert source.classes == ("speaker0", "speaker1", "speaker2")
    assert source.size("train") + source.size("test") == source.size("all") == 30
    names = {
        split: {path.split("/")[1] for path in source.split(split).paths}
        for split in ("train", "test")
    }
    assert names["train"]
    assert names["test"]
    assert not names["train"] & names["test"]
    batch = source.split("train").__getitems__([0, 5])
    assert [wave.dtype for wave in batch["views"][0]] == [torch.float32] * 2
    assert batch["path"][0].startswith(source.classes[batch["label"][0]])
    spec = source.spec()
    assert (spec.rate, spec.length) == (8000, 512)
    joined = torch.cat([source.split("train").wave(i) for i in range(source.size("train"))])
    assert spec.std == pytest.approx(joined.std().item(), abs=1e-4)
    assert source.prepare(spec)(batch).shape == (2, 512)
    assert source.fit(WaveSpec(rate=4000, length=8, std=1.0)).rate == 4000


def test_a_flat_folder_has_no_labels_and_empty_files_are_left_out(tmp_path, caplog):
    for number in range(3):
        write_wav(tmp_path / f"{number}.wav", TONE)
    write_wav(tmp_path / "empty.wav", TONE[:0])
    with caplog.at_level(logging.WARNING):
        source = WaveFolder(str(tmp_path))
        assert source.size("train") == 3
    assert "1 recordings left out" in caplog.text
    assert source.classes is None
    assert "label" not in source.split("train").__getitems__([0])
    with pytest.raises(ValueError, match="no split 'test'"):
        source.split("test")


def test_a_folder_of_recordings_opens_as_one(tmp_path):
    write_wav(tmp_path / "a" / "0.wav", TONE)
    assert isinstance(open_data(str(tmp_path)), WaveFolder)
    with pytest.raises(FileNotFoundError, match="give a folder of recordings"):
        WaveFolder(str(tmp_path / "none"))
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match="holds no recordings"):
        WaveFolder(str(tmp_path / "b")).size("train")


def test_librispeech_says_where_it_comes_from(tmp_path, monkeypatch):
    monkeypatch.setenv("UNLABELED_DATA", str(tmp_path))
    source = LibriSpeech()
    assert source.spec() == WaveSpec(rate=16_000, length=20_480, std=0.07)
    with pytest.raises(FileNotFoundError, match=r"openslr\.org/12"):
        source.size("train")
    folder = cache_folder("librispeech") / "train-clean-100"
    for speaker in ("19", "26"):
        for number in range(6):
            path = folder / speaker / "198" / f"{number}.wav"
            write_wav(path, TONE, rate=16_000)
    assert source.classes == ("19", "26")
    assert source.size("all") == 12
    assert isinstance(open_data("librispeech"), LibriSpeech)


def test_a_spec_needs_positive_numbers():
    with pytest.raises(ValueError, match="length 0"):
        WaveSpec(rate=8000, length=0, std=1.0)
