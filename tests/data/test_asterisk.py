import pytest

from tests.speech import utterance, write_wav
from unlabeled.data import asterisk, get, known, open_data
from unlabeled.data.asterisk import VOICES, Asterisk


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("UNLABELED_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(asterisk, "SYSTEM", tmp_path / "system")
    return tmp_path


def write_voice(folder, voice):
    sound = utterance(0, [1], seed=0, seconds=0.05)
    for number in range(6):
        write_wav(folder / voice / "digits" / f"{number}.wav", sound)
    write_wav(folder / voice / "silence" / "1.wav", sound)
    write_wav(folder / "other" / "x.wav", sound)


def test_prompts_are_split_alike_in_all_voices_and_silence_is_left_out(nowhere):
    for voice in VOICES:
        write_voice(nowhere / "cache" / "asterisk", voice)
    source = open_data("asterisk")
    assert source == Asterisk()
    assert source.size("all") == 30
    train, test = ({p.split("/", 1)[1] for p in source.split(s).paths} for s in ("train", "test"))
    assert len(train) + len(test) == 6
    assert not train & test
    assert source.split("all").label.unique().tolist() == [0, 1, 2, 3, 4]
    assert len(source.classes) == 5
    with pytest.raises(ValueError, match="no split 'val'"):
        source.split("val")


def test_it_says_how_to_get_it(nowhere):
    with pytest.raises(FileNotFoundError, match="unlabeled data get asterisk"):
        Asterisk().size("train")
    assert Asterisk().spec().rate == 8000
    assert {each.name: each.found for each in known()}["asterisk"] is None


def test_getting_it_unpacks_all_voices_once(nowhere, monkeypatch):
    asked = []

    def unpack(packages, work):
        asked.append(packages)
        if len(asked) == 1:
            raise RuntimeError("apt-get failed: no network")
        for voice in VOICES:
            write_voice(work / "unpacked" / (nowhere / "system").relative_to("/"), voice)
        return work / "unpacked"

    monkeypatch.setattr(asterisk, "unpack", unpack)
    with pytest.raises(OSError, match="asterisk cannot be had: apt-get failed"):
        get("asterisk")
    place = str(nowhere / "cache" / "asterisk")
    assert get("asterisk") == get("asterisk") == place
    assert len(asked) == 2
    assert sorted(path.name for path in (nowhere / "cache" / "asterisk").iterdir()) == list(VOICES)
    assert Asterisk().size("all") == 30
