import pytest
import torch

from unlabeled.data.source import WaveSpec
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.waves import MiddleWindow, RandomWindow, windows

SPEC = WaveSpec(rate=100, length=8, std=0.5)
WAVES = [torch.arange(float(length)) for length in (8, 20, 3)]


def draw(index):
    batch = {"views": [[WAVES[i] for i in index]], "index": torch.tensor(index)}
    generator = SampleGenerator(0, 0, batch["index"])
    return RandomWindow().fit(SPEC)(batch, generator)["views"][0]


def test_windows_come_from_the_recording_and_are_divided_by_its_deviation():
    view = draw([0, 1, 2])
    assert view.shape == (3, 8)
    assert torch.equal(view[0], WAVES[0] / 0.5)
    start = int(view[1, 0] * 0.5)
    assert 0 <= start <= 12
    assert torch.equal(view[1], WAVES[1][start : start + 8] / 0.5)


def test_short_recordings_are_repeated():
    assert draw([2])[0].tolist() == [0, 2, 4, 0, 2, 4, 0, 2]
    assert windows([WAVES[2]], torch.tensor([2]), length=5).tolist() == [[2, 0, 1, 2, 0]]


def test_places_vary_and_do_not_depend_on_the_batch():
    index = torch.arange(300)
    batch = {"views": [[WAVES[1]] * 300], "index": index}
    starts = RandomWindow().fit(SPEC)(batch, SampleGenerator(0, 0, index))["views"][0][:, 0] * 0.5
    assert starts.unique().tolist() == list(range(13))
    part = {"views": [[WAVES[1]] * 5], "index": index[100:105]}
    again = RandomWindow().fit(SPEC)(part, SampleGenerator(0, 0, index[100:105]))["views"][0]
    assert torch.equal(again[:, 0] * 0.5, starts[100:105])


def test_the_middle_window():
    x = MiddleWindow(SPEC)({"views": [WAVES], "index": torch.arange(3)})
    assert (x[1] * 0.5).tolist() == list(range(6, 14))


def test_the_length_is_the_views_own_where_given():
    fitted = RandomWindow(5).fit(SPEC)
    assert fitted.spec == WaveSpec(rate=100, length=5, std=0.5)
    with pytest.raises(ValueError, match="length is 0"):
        RandomWindow(0)
    with pytest.raises(ValueError, match="call fit"):
        RandomWindow()({"views": [WAVES], "index": torch.arange(3)}, None)
