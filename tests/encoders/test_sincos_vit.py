import math
from functools import partial

import pytest
import torch
from torch import nn

from unlabeled.artifacts import load_encoder, save_encoder
from unlabeled.data.source import ImageSpec
from unlabeled.encoders.sincos_vit import sincos_positions, sincos_vit

SPEC = ImageSpec(channels=1, size=16, mean=(0.5,), std=(0.5,))
SIZES = {"dim": 24, "depth": 2, "heads": 3, "patch": 4}


def test_positions_are_fixed_waves_of_row_and_column():
    found = sincos_positions(3, dim=8).view(3, 3, 8)
    assert found.abs().max() <= 1
    for row in range(3):
        for column in range(3):
            for half, place in ((0, row), (4, column)):
                for i, frequency in enumerate((1.0, 10000**-0.5)):
                    sine, cosine = found[row, column, half + i], found[row, column, half + 2 + i]
                    assert sine.item() == pytest.approx(math.sin(place * frequency), abs=1e-6)
                    assert cosine.item() == pytest.approx(math.cos(place * frequency), abs=1e-6)
    swapped = found.transpose(0, 1)
    torch.testing.assert_close(swapped, torch.cat([found[..., 4:], found[..., :4]], 2))


def test_only_positions_and_patches_are_frozen():
    frozen = {name for name, value in sincos_vit(SPEC, **SIZES).named_parameters()
              if not value.requires_grad}  # fmt: skip
    patches = {"net.patch_embed.proj.weight", "net.patch_embed.proj.bias"}
    assert frozen == {"net.pos_embed", *patches}
    encoder = sincos_vit(SPEC, **SIZES, frozen_patches=False)
    assert encoder.net.patch_embed.proj.weight.requires_grad
    assert encoder.net.pos_embed[0, 0].abs().max() == 0
    torch.testing.assert_close(encoder.net.pos_embed[0, 1:], sincos_positions(4, dim=24))


def test_weights_start_within_the_papers_bounds():
    net = sincos_vit(SPEC, **SIZES).net
    block = net.blocks[0]
    for weight, bound in (
        (block.attn.qkv.weight, math.sqrt(6 / (24 + 24))),
        (block.attn.proj.weight, math.sqrt(6 / (24 + 24))),
        (block.mlp.fc1.weight, math.sqrt(6 / (24 + 96))),
        (net.patch_embed.proj.weight, math.sqrt(6 / (16 + 24))),
    ):
        assert 0.95 * bound < weight.abs().max() <= bound
    assert block.attn.qkv.bias.abs().max() == block.mlp.fc2.bias.abs().max() == 0
    assert net.patch_embed.proj.bias.abs().max() == 0
    assert 0 < net.cls_token.abs().max() < 1e-5


def test_the_class_token_is_the_output_and_a_file_gives_it_back(tmp_path):
    encoder = sincos_vit(SPEC, **SIZES).eval()
    x = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(encoder(x), encoder.local(x)[:, 0])
    assert encoder.maps(x).shape == (2, 24, 4, 4)
    assert encoder(torch.randn(2, 1, 24, 24)).shape == (2, 24)
    path = save_encoder(encoder, partial(sincos_vit, **SIZES), tmp_path, name="toy")
    torch.testing.assert_close(load_encoder(path).encoder.eval()(x), encoder(x))


def test_batch_norm_stands_before_the_mlps_only_and_can_be_synchronized():
    net = sincos_vit(SPEC, **SIZES, batchnorm=True).net
    for block in net.blocks:
        assert isinstance(block.norm1, nn.LayerNorm)
        assert isinstance(block.norm2.norm, nn.BatchNorm1d)
        assert isinstance(block.mlp.norm, nn.Identity)
    x = 3 + 2 * torch.randn(5, 17, 24)
    x[:, 0] += 1
    found = net.blocks[0].norm2(x)
    torch.testing.assert_close(found.mean((0, 1)), torch.zeros(24), atol=1e-5, rtol=0)
    assert found[:, 0].mean() > 0.2  # not token by token, as layer norm would
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    assert isinstance(synced.blocks[0].norm2.norm, nn.SyncBatchNorm)


@pytest.mark.parametrize("change", [{"patch": 5}, {"heads": 5}, {"dim": 18}])
def test_sizes_that_do_not_divide_are_refused(change):
    with pytest.raises(ValueError, match="give a patch that divides"):
        sincos_vit(SPEC, **{**SIZES, **change})
