import pytest
import torch

from unlabeled.data.source import WaveSpec
from unlabeled.encoders.speech import wave_encoder

SPEC = WaveSpec(rate=16_000, length=20_480, std=0.1)


def test_the_papers_windows_give_128_latents():
    with torch.device("meta"):
        encoder = wave_encoder(SPEC)
        z = encoder.latents(torch.empty(2, 20_480))
        assert z.shape == (2, 512, 128)
        assert encoder.context(z).shape == (2, 128, 256)
    assert (encoder.dim, encoder.latent_dim) == (256, 512)


def test_contexts_see_the_past_only():
    encoder = wave_encoder(SPEC, width=8, dim=8).double()
    x = torch.randn(1, 4096, dtype=torch.float64)
    later = x.clone()
    later[:, 2000:] += 1
    before, after = encoder.local(x)[0], encoder.local(later)[0]
    # a latent sees 465 samples; padding starts the first 185 before the window
    safe = (2000 - 465) // 160
    torch.testing.assert_close(before[:safe], after[:safe], rtol=0, atol=0)
    assert (before[14:] - after[14:]).abs().max() > 1e-3


def test_the_feature_is_the_mean_context_of_windows_of_any_length():
    encoder = wave_encoder(SPEC, width=8, dim=8)
    for length in (3200, 6400):
        x = torch.randn(3, length)
        torch.testing.assert_close(encoder(x), encoder.local(x).mean(1))


def test_wrong_lists_and_short_windows_are_refused():
    with pytest.raises(ValueError, match="give one of each a convolution"):
        wave_encoder(SPEC, kernels=(10, 8))
    with pytest.raises(ValueError, match="windows of 20 samples"):
        wave_encoder(WaveSpec(rate=8000, length=20, std=1.0))
