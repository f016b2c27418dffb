import math
from dataclasses import replace

import pytest
import torch
from lightning import Callback
from torch import nn

from tests.tiny import tiny
from unlabeled.encoders.regnet import STAGES
from unlabeled.methods.image import seer
from unlabeled.methods.image.seer import swav_at_scale
from unlabeled.methods.image.swav import SwAV
from unlabeled.ops.sinkhorn import sinkhorn
from unlabeled.pretraining import pretrain
from unlabeled.schedule import Clock

QUIET = {"logger": False, "checkpoint_seconds": 1e9, "accelerator": "cpu"}


def no_sweep(function):
    raise AssertionError("SEER does not sweep")


def test_collapsed_features_give_the_log_of_16000(given, pair):
    method = swav_at_scale(given(4), hidden=8, dim=4).double()
    method.projector = nn.Identity()
    with torch.no_grad():
        method.prototypes.weight.copy_(torch.ones(16_000, 4))
    method.before_step(no_sweep)
    ones = torch.ones(8, 4, dtype=torch.float64)
    (value,) = method.loss(pair(ones, ones)).values()
    assert value.item() == pytest.approx(9.68034, abs=1e-5)
    assert value.item() == pytest.approx(math.log(16_000))


def test_it_is_swav_with_three_plain_layers_and_no_queue(given):
    method = swav_at_scale(given(32), hidden=16, dim=8, prototypes=12)
    assert isinstance(method, SwAV)
    kinds = [type(layer) for layer in method.projector]
    assert kinds == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert [layer.out_features for layer in method.projector[::2]] == [16, 16, 8]
    assert all(layer.bias is not None for layer in method.projector[::2])
    assert method.queue is None
    assert (method.iterations, method.epsilon, method.temperature) == (10, 0.05, 0.1)


def test_codes_stay_finite_and_exact_at_the_papers_sharpness():
    """Cosines of +-1 over 0.05: exp overflows in half precision, and 1000 more in any."""
    torch.manual_seed(0)
    scores = torch.rand(64, 128) * 2 - 1
    code = sinkhorn(scores, epsilon=0.05, iterations=10)
    exact = sinkhorn(scores.double(), epsilon=0.05, iterations=10)
    torch.testing.assert_close(code.double(), exact, atol=1e-4, rtol=0)
    shifted = sinkhorn(scores.double() + 1000, epsilon=0.05, iterations=10)
    torch.testing.assert_close(shifted, exact, atol=1e-8, rtol=0)


def test_the_papers_rate_follows_updates_and_not_epochs():
    lr = seer.paper().optim.lr
    at = [lr(Clock(step, 122_000, 122_000)) for step in (0, 4_000, 8_000, 65_000, 122_000)]
    assert at == pytest.approx([0.15, (0.15 + 9.6) / 2, 9.6, (9.6 + 0.0096) / 2, 0.0096])


def test_the_paper_has_1_3_billion_parameters_and_computes_its_stages_again():
    with torch.device("meta"):
        method = seer.paper().build()
    count = sum(value.numel() for value in method.parameters())
    assert 1.3e9 < count < 1.5e9
    for name in STAGES:
        assert "forward" in vars(method.encoder.get_submodule(name))


def test_one_pass_sees_each_image_at_most_once(tmp_path):
    """The stream has no second epoch, also across a kill."""
    seen: list[int] = []

    class Look(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            seen.extend(batch["index"].tolist())
            if len(seen) == 20 * 16 and not killed:
                killed.append(True)
                seen[-16:] = []  # the batch that is not trained on
                raise KeyboardInterrupt

    recipe = tiny("seer")
    recipe = replace(recipe, epochs=seer.small().epochs, steps=None)
    killed: list[bool] = []
    options = {**QUIET, "checkpoint_seconds": 0.0}
    try:
        pretrain(recipe, out=tmp_path / "run", callbacks=[Look()], **options)
    except (KeyboardInterrupt, SystemExit):
        pretrain(recipe, out=tmp_path / "run", callbacks=[Look()], **options)
    assert killed
    assert len(seen) == len(set(seen)) == 1347 // 16 * 16
