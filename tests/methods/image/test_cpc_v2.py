import math
from functools import partial

import pytest
import torch
from torch import nn

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.patches import layer_norm, patch_resnet
from unlabeled.methods.image import cpc_v2
from unlabeled.methods.image.cpc_v2 import DIRECTIONS, CPCv2
from unlabeled.nn.context import RowContext

SPEC = ImageSpec(channels=1, size=16, mean=(0.5,), std=(0.5,))


def small(nearest=2, farthest=3):
    encoder = patch_resnet(SPEC, widths=(8,), blocks=(1,), hidden=None, stem_width=8,
                           stem_kernel=3, stem_pool=False, norm=layer_norm)  # fmt: skip
    context = partial(RowContext, hidden=8, blocks=3)
    return CPCv2(encoder, context=context, dim=6, nearest=nearest, farthest=farthest).double()


def images(count=4):
    x = torch.randn(count, 1, 16, 16, dtype=torch.float64)
    return {"views": [x], "index": torch.arange(count)}


def slow(z, target, context, future, nearest, farthest):
    """Appendix A for one direction: rows from the top; flat indices of targets."""
    batch, _, height, width = z.shape
    c, t = context(z), target(z)
    rows = t.permute(0, 2, 3, 1).reshape(-1, t.shape[1])
    total = 0.0
    for offset, layer in zip(range(nearest, farthest + 1), future.maps, strict=True):
        losses = []
        for b in range(batch):
            for row in range(height - offset):
                for column in range(width):
                    p = layer(c[b : b + 1, :, row : row + 1, column : column + 1]).flatten() * 0.1
                    label = b * height * width + (row + offset) * width + column
                    losses.append(-(rows @ p).log_softmax(0)[label])
        total = total + torch.stack(losses).mean()
    return total


def test_equals_the_loop_from_four_sides():
    method, batch = small(), images(2)
    z = method.encoder.maps(batch["views"][0])
    found = method.loss(batch)
    turned = [z, z.flip(2), z.rot90(-1, (2, 3)).flip(3), z.rot90(1, (2, 3))]
    for name, grid, context, future in zip(
        found, turned, method.contexts, method.futures, strict=True
    ):
        expected = slow(grid, method.target, context, future, 2, 3) / 4
        torch.testing.assert_close(found[name], expected)
    assert list(found) == ["from_above", "from_below", "from_left", "from_right"]


def test_zero_predictors_give_the_log_of_all_patches():
    method = small(nearest=3, farthest=3)
    for parameter in method.futures.parameters():
        nn.init.zeros_(parameter)
    total = sum(method.loss(images(4)).values()).item()
    assert total == pytest.approx(math.log(196))
    assert total == pytest.approx(5.2781, abs=1e-4)


def test_each_direction_sees_its_own_side_only():
    z = torch.randn(1, 8, 5, 5, dtype=torch.float64, requires_grad=True)
    context = RowContext(8, hidden=8, blocks=5).double()
    sides = {
        "from_above": lambda seen: seen[:3].any() and not seen[3:].any(),
        "from_below": lambda seen: seen[2:].any() and not seen[:2].any(),
        "from_left": lambda seen: seen[:, :3].any() and not seen[:, 3:].any(),
        "from_right": lambda seen: seen[:, 2:].any() and not seen[:, :2].any(),
    }
    for turn in DIRECTIONS:
        out = context(turn(z))[:, :, 2].sum()
        (gradient,) = torch.autograd.grad(out, z)
        assert sides[turn.__name__](gradient[0].abs().sum(0) > 0), turn.__name__


def test_every_direction_and_the_targets_learn():
    method = small()
    sum(method.loss(images()).values()).backward()
    assert all(value.grad.abs().sum() > 0 for value in method.parameters())


def test_predictions_skip_the_rows_that_share_pixels():
    recipe = cpc_v2.paper().fitted()
    with torch.device("meta"):
        method = recipe.build()
    encoder = method.encoder
    assert (encoder.patch, encoder.stride, encoder.rows) == (80, 36, 6)
    steps = method.futures[0].steps
    assert steps == (3,)
    assert steps[0] * encoder.stride >= encoder.patch > (steps[0] - 1) * encoder.stride
    assert encoder.dim == 2048
    ours = cpc_v2.small().fitted().build()
    nearest = ours.futures[0].steps[0]
    assert nearest * ours.encoder.stride >= ours.encoder.patch
    assert (nearest - 1) * ours.encoder.stride < ours.encoder.patch


def test_no_network_of_the_method_is_batch_normalized():
    for recipe in (cpc_v2.paper(), cpc_v2.small()):
        with torch.device("meta"):
            method = recipe.build()
        kinds = {type(module) for module in method.modules()}
        assert not any(issubclass(kind, nn.modules.batchnorm._BatchNorm) for kind in kinds)
        assert nn.GroupNorm in kinds
