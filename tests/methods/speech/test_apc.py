from functools import partial

import pytest
import torch

from unlabeled.data.source import WaveSpec
from unlabeled.encoders.causal import attentive_encoder, recurrent_encoder, sinusoids
from unlabeled.methods.speech.apc import APC, future_l1
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.waves import Beginning

SPEC = WaveSpec(rate=8000, length=2000, std=1.0)
BUILDERS = {
    "gru": partial(recurrent_encoder, bands=12, dim=16, layers=3),
    "transformer": partial(attentive_encoder, bands=12, dim=16, layers=3, heads=4),
}


def inside(batch: int, frames: int) -> torch.Tensor:
    return torch.ones(batch, frames, dtype=torch.bool)


def test_the_closed_forms_of_the_loss():
    frames = torch.full((2, 9, 4), 0.7)
    assert future_l1(frames, frames, inside(2, 9), ahead=3) == 0
    assert future_l1(torch.zeros(2, 9, 4), torch.ones(2, 9, 4), inside(2, 9), ahead=2) == 1
    # a sine of period n is predicted by persistence n frames ahead
    sine = torch.sin(2 * torch.pi * torch.arange(20) / 5).expand(2, 3, 20).mT
    assert future_l1(sine, sine, inside(2, 20), ahead=5) < 1e-6
    assert future_l1(sine, sine, inside(2, 20), ahead=2) > 0.5


def test_the_loss_equals_a_slow_loop_over_what_lies_inside():
    torch.manual_seed(0)
    y, x, lengths = torch.randn(3, 8, 2), torch.randn(3, 8, 2), [8, 5, 3]
    mask = torch.arange(8) < torch.tensor(lengths)[:, None]
    terms = []
    for row, length in enumerate(lengths):
        for t in range(length - 3):
            terms.append((x[row, t + 3] - y[row, t]).abs().mean())
    assert len(terms) == 7  # the third recording has no target
    assert future_l1(y, x, mask, ahead=3) == pytest.approx(float(sum(terms) / 7), abs=1e-6)


@pytest.mark.parametrize("kind", BUILDERS)
def test_no_layer_sees_the_future(kind):
    torch.manual_seed(0)
    encoder = BUILDERS[kind](SPEC).eval()
    frames = torch.randn(2, 14, 12)
    changed = frames.clone()
    changed[:, 9] += 3
    for before, after in zip(encoder.net(frames), encoder.net(changed), strict=True):
        torch.testing.assert_close(before[:, :9], after[:, :9], rtol=0, atol=1e-6)
        assert not torch.allclose(before[:, 9:], after[:, 9:])
    assert len(encoder.layers(torch.randn(2, 2000))) == 3


def test_a_residual_connects_layers_of_one_width_only():
    encoder = BUILDERS["gru"](SPEC)
    for gru in encoder.net.grus:
        for value in gru.parameters():
            torch.nn.init.zeros_(value)  # a GRU of zeros gives zeros
    first, second, third = encoder.net(torch.randn(2, 5, 12))
    assert first.abs().max() == 0, "12 bands to 16: no residual"
    encoder.net.grus[0] = torch.nn.GRU(12, 16, batch_first=True)
    first, second, third = encoder.net(torch.randn(2, 5, 12))
    assert torch.equal(first, second)
    assert torch.equal(second, third)


def test_bands_are_normalized_over_the_data_once():
    torch.manual_seed(0)
    method = APC(BUILDERS["gru"](SPEC))
    data = torch.randn(30, 2000) * torch.linspace(0.2, 2, 30)[:, None]
    method.before_step(lambda function: function(data))
    frames = method.encoder.frames(data)
    torch.testing.assert_close(frames.mean((0, 1)), torch.zeros(12), atol=1e-3, rtol=0)
    torch.testing.assert_close(frames.std((0, 1)), torch.ones(12), atol=1e-2, rtol=0)
    method.before_step(None)  # a second reading would fail


def test_a_recording_is_padded_and_its_padding_is_no_target():
    views = Beginning().fit(SPEC)
    waves = [torch.randn(2600), torch.randn(900)]
    batch = {"views": [waves], "index": torch.arange(2)}
    seen = views(batch, SampleGenerator(0, 0, torch.arange(2)))
    assert seen["length"].tolist() == [2000, 900]
    assert torch.equal(seen["views"][0][1, 900:], torch.zeros(1100))
    method = APC(BUILDERS["gru"](SPEC))
    loss = method.loss(seen)["l1"]
    other = {**seen, "views": [seen["views"][0].clone()]}
    other["views"][0][1, 900:] = 5.0
    assert method.loss(other)["l1"].item() == pytest.approx(loss.item(), abs=1e-6)


def test_places_are_sinusoids():
    table = sinusoids(6, 8)
    assert table[0].tolist() == [0, 1] * 4
    assert table[3, 0] == pytest.approx(0.14112, abs=1e-5)
    assert table[3, 7] == pytest.approx(0.9999955, abs=1e-6)


def test_n_below_one_is_refused():
    with pytest.raises(ValueError, match="ahead is 0"):
        APC(BUILDERS["gru"](SPEC), ahead=0)
