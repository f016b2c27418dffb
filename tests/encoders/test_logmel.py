import librosa
import pytest
import torch

from unlabeled.data.source import WaveSpec
from unlabeled.encoders.logmel import FLOOR, LogMel

SPEC = WaveSpec(rate=8000, length=4000, std=1.0)


def test_it_equals_librosa_s_spectrum():
    torch.manual_seed(0)
    x = torch.randn(1, 4000)
    found = LogMel(SPEC, bands=20)(x)[0]
    power = librosa.feature.melspectrogram(
        y=x[0].numpy(), sr=8000, n_fft=256, hop_length=80, win_length=200, n_mels=20, center=False
    )
    # librosa pads each window to 256 samples on both sides, which shifts its frames by 28 samples
    shifted = LogMel(SPEC, bands=20)(x[:, 28:])[0]
    expected = torch.tensor(power).mT.add(FLOOR).log()
    count = min(len(expected), len(shifted))
    torch.testing.assert_close(shifted[:count], expected[:count], rtol=1e-3, atol=1e-3)
    assert len(found) == (4000 - 200) // 80 + 1


def test_frames_are_counted_and_placed():
    logmel = LogMel(SPEC)
    assert logmel.count(torch.tensor([199, 200, 279, 280, 4000])).tolist() == [0, 1, 1, 2, 48]
    assert logmel.centers(3).tolist() == [100, 180, 260]


def test_a_recording_shorter_than_a_window_is_refused():
    with pytest.raises(ValueError, match="150 samples, a window 200"):
        LogMel(WaveSpec(rate=8000, length=150, std=1.0))
