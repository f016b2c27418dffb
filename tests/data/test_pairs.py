import pytest
import torch
from PIL import Image

from unlabeled.data import open_data
from unlabeled.data.motorcycle import Motorcycle
from unlabeled.data.rooms import RoomPairs

ROOMS = RoomPairs(height=16, width=32, train=3, test=2)


def film(folder, count, *, side=40):
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (side, side), (20 * number, 0, 0)).save(folder / f"{number:03d}.png")


def test_a_folder_of_films_gives_pairs_of_neighbors_in_one_film(tmp_path):
    film(tmp_path / "a", 6)
    film(tmp_path / "b", 6)
    data = open_data(f"frames:{tmp_path}")
    assert (data.size("train"), data.size("test"), data.shape) == (9, 1, (32, 32))
    assert data.size("all") == 10
    batch = data.split("train").__getitems__(list(range(9)))
    red = batch["views"][0][:, :, 0, 0, 0]
    assert (red[:, 1] - red[:, 0] == 20).all(), "never from one film to the next"
    x = data.prepare(data.spec())(batch)
    assert x.shape == (9, 2, 3, 32, 32)
    assert x.max() <= 1
    assert data.motion("test") is None


def test_bad_folders_and_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none is no folder"):
        open_data(f"frames:{tmp_path / 'none'}").size("train")
    film(tmp_path / "one", 1)
    with pytest.raises(FileNotFoundError, match="no two frames"):
        open_data(f"frames:{tmp_path / 'one'}").size("train")
    film(tmp_path / "hurt", 3)
    (tmp_path / "hurt" / "001.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"001\.png cannot be read"):
        open_data(f"frames:{tmp_path / 'hurt'}").split("train").__getitems__([0])


def test_rooms_are_rendered_once_and_again_where_the_file_is_damaged(tmp_path, monkeypatch):
    monkeypatch.setenv("UNLABELED_DATA", str(tmp_path))
    from unlabeled.data import rooms

    rooms._rendered.cache_clear()
    first = ROOMS.split("test").__getitems__([0, 1])["views"][0]
    (stored,) = (tmp_path / "rooms").iterdir()
    stored.write_bytes(stored.read_bytes()[:100])
    rooms._rendered.cache_clear()
    again = ROOMS.split("test").__getitems__([0, 1])["views"][0]
    assert torch.equal(first, again)
    assert ROOMS.motion("test").flow.shape == (2, 2, 16, 32)
    assert ROOMS.size("train") == 6
    train = ROOMS.split("train").__getitems__([0, 1])["views"][0]
    assert torch.equal(train[0, 1], train[1, 0]), "the middle frame is in both pairs"
    rooms._rendered.cache_clear()


def test_the_stereo_pair_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("UNLABELED_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="data get motorcycle"):
        Motorcycle().split("test")
