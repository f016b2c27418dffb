import pytest
import torch

from unlabeled.data import open_data
from unlabeled.data.clips import Clips
from unlabeled.data.videos import VideoFolder

av = pytest.importorskip("av")


def film(path, frames, *, width=48, height=32):
    """Frame number n is gray 4 n, but for codec losses."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            shade = torch.full((height, width, 3), 4 * number, dtype=torch.uint8).numpy()
            for packet in stream.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)


def test_films_are_cut_into_clips_of_every_third_frame(tmp_path):
    film(tmp_path / "a.mp4", 50)
    film(tmp_path / "b.avi", 26)
    data = VideoFolder(str(tmp_path), frames=4, every=3, side=16)
    assert (data.size("train"), data.size("test")) == (5, 1), "four clips of 12 frames, and two"
    assert data.size("all") == 6
    clips = data.split("train").__getitems__([0, 1, 4])["views"][0]
    assert clips.shape == (3, 4, 3, 16, 16)
    shades = clips.float().mean((2, 3, 4))
    expected = torch.tensor([[0, 12, 24, 36], [48, 60, 72, 84], [48, 60, 72, 84]]).float()
    assert (shades - expected).abs().max() < 6
    x = data.prepare(data.spec())({"views": [clips], "index": torch.arange(3)})
    assert x.shape == clips.shape
    assert isinstance(open_data(str(tmp_path)), VideoFolder)


def test_what_is_no_film_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no films"):
        VideoFolder(str(tmp_path)).size("train")
    (tmp_path / "hurt.mp4").write_bytes(b"no film at all" * 100)
    with pytest.raises(ValueError, match=r"hurt\.mp4 cannot be read"):
        VideoFolder(str(tmp_path)).size("train")
    film(tmp_path / "hurt.mp4", 5)
    from unlabeled.data import videos

    videos._count.cache_clear()
    with pytest.raises(ValueError, match=r"no film .* has 24 frames"):
        VideoFolder(str(tmp_path)).size("train")


def test_drawn_things_move_by_their_own_size_and_hide_what_is_below():
    data = Clips(frames=5, side=32, train=4, test=12)
    clips, masks = data.split("test").__getitems__(list(range(12)))["views"][0], data.masks("test")
    assert clips.shape == (12, 5, 3, 32, 32)
    assert set(masks.unique().tolist()) == {0, 1, 2, 3}
    stays = (masks[:, 0] == masks[:, -1])[masks[:, 0] > 0].float().mean()
    assert stays < 0.35, "the first mask is no answer for the last frame"
    again = Clips(frames=5, side=32, train=4, test=12)
    assert torch.equal(again.masks("test"), masks)
    ground = (masks == 0).float().mean()
    assert 0.5 < ground < 0.9
