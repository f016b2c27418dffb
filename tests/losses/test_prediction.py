import math

import pytest
import torch

from unlabeled.losses.prediction import future_nce


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def slow(prediction, latent, step):
    """Written from CPC, eq. 4: one predicted place after the other."""
    batch, _, times, side = latent.shape
    every = [latent[b, :, t, s] for b in range(batch) for t in range(times) for s in range(side)]
    losses = []
    for b in range(batch):
        for t in range(times - step):
            for s in range(side):
                p = prediction[b, :, t, s]
                positive = (p @ latent[b, :, t + step, s]).exp()
                losses.append(-(positive / sum((p @ z).exp() for z in every)).log())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("step", [1, 2, 3])
def test_equals_the_loop(step):
    latent = randn(2, 3, 4, 2)
    prediction = randn(2, 3, 4 - step, 2, seed=step)
    torch.testing.assert_close(
        future_nce(prediction, latent, step=step), slow(prediction, latent, step)
    )


@pytest.mark.parametrize(
    ("batch", "times", "side", "expected"),
    [(2, 4, 1, 2.0794), (4, 4, 1, 2.7726), (4, 7, 7, 5.2781)],
)
def test_zero_predictions_give_the_log_of_all_latents(batch, times, side, expected):
    value = future_nce(
        torch.zeros(batch, 3, times - 1, side), torch.randn(batch, 3, times, side), step=1
    )
    assert value.item() == pytest.approx(math.log(batch * times * side), abs=1e-5)
    assert value.item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("step", [1, 2])
def test_the_codes_of_the_right_places_give_zero(step):
    """The note's label test: targets are one-hot codes of their flat index."""
    batch, rows, columns = 2, 4, 3
    count = batch * rows * columns
    latent = torch.eye(count).view(batch, rows, columns, count).permute(0, 3, 1, 2)
    assert future_nce(50 * latent[:, :, step:], latent, step=step) < 1e-6
    assert future_nce(50 * latent[:, :, :-step], latent, step=step) > 10


def test_gradients_reach_positives_and_negatives():
    latent, prediction = randn(2, 3, 3, 1).requires_grad_(), randn(2, 3, 2, 1, seed=1)
    prediction.requires_grad_()
    assert torch.autograd.gradcheck(lambda p, z: future_nce(p, z, step=1), (prediction, latent))
    future_nce(prediction, latent, step=1).backward()
    # the first place is nobody's future, so only a negative
    assert latent.grad[:, :, 0].abs().min() > 0


def test_float32_under_autocast():
    latent, prediction = torch.randn(2, 8, 3, 1), torch.randn(2, 8, 2, 1)
    expected = future_nce(prediction, latent, step=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(future_nce(prediction, latent, step=1), expected)


def test_a_step_beyond_the_sequence_is_refused():
    latent = torch.zeros(1, 2, 3, 1)
    for step, places in ((3, 0), (0, 3), (1, 3)):
        with pytest.raises(ValueError, match=f"at step {step}"):
            future_nce(torch.zeros(1, 2, places, 1), latent, step=step)
