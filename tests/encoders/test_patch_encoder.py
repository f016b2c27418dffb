from functools import partial

import pytest
import torch
from torch import nn

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.patches import layer_norm, no_norm, patch_resnet
from unlabeled.ops.patches import cut_patches

SPEC = ImageSpec(channels=1, size=16, mean=(0.5,), std=(0.5,))
TINY = {
    "widths": (8, 16), "blocks": (1, 1), "hidden": None,
    "stem_width": 8, "stem_kernel": 3, "stem_pool": False,
}  # fmt: skip


def test_each_latent_sees_its_patch_alone():
    encoder = patch_resnet(SPEC, **TINY).double()
    x = torch.randn(2, 1, 16, 16, dtype=torch.float64, requires_grad=True)
    z = encoder.maps(x)
    assert z.shape == (2, 16, 7, 7)
    assert encoder.rows == 7
    (gradient,) = torch.autograd.grad(z[0, :, 2, 3].sum(), x)
    seen = gradient[0, 0].abs() > 0
    assert seen[4:8, 6:10].any()
    seen[4:8, 6:10] = False
    assert not seen.any()
    assert not gradient[1].any()


def test_images_and_their_patches_give_the_same():
    encoder = patch_resnet(SPEC, **TINY)
    x = torch.randn(3, 1, 16, 16)
    torch.testing.assert_close(encoder.maps(x), encoder.maps(cut_patches(x, patch=4, stride=2)))
    torch.testing.assert_close(encoder(x), encoder.maps(x).mean((2, 3)))
    assert encoder.local(x).shape == (3, 49, 16)


def test_nothing_is_normalized_over_the_batch():
    for norm, kind in ((no_norm, nn.Identity), (layer_norm, nn.GroupNorm)):
        encoder = patch_resnet(SPEC, **TINY, norm=norm).train()
        assert any(isinstance(module, kind) for module in encoder.modules())
        assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in encoder.modules())
        x = torch.randn(4, 1, 16, 16)
        torch.testing.assert_close(encoder(x)[:1], encoder(x[:1]))


def test_layer_norm_is_over_channels_and_positions():
    x = torch.randn(3, 8, 4, 4) * 5 + 2
    y = layer_norm(8)(x)
    torch.testing.assert_close(y.mean((1, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var((1, 2, 3), correction=0), torch.ones(3), atol=1e-3, rtol=0)


def test_gray_ignores_color():
    spec = ImageSpec(channels=3, size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    encoder = patch_resnet(spec, **TINY, gray=True).double()
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    shift = torch.tensor([0.587, -0.2989, 0.0]).double()[:, None, None]
    torch.testing.assert_close(encoder(x + shift), encoder(x))


def test_the_papers_resnet_is_the_one_of_101_layers_up_to_its_third_stage():
    with torch.device("meta"):
        spec = ImageSpec(channels=3, size=256, mean=(0.5,) * 3, std=(0.5,) * 3)
        encoder = patch_resnet(spec, gray=True)
        assert encoder.maps(torch.empty(1, 3, 256, 256)).shape == (1, 1024, 7, 7)
    assert len(encoder.net.stages) == 30
    assert (encoder.patch, encoder.stride) == (64, 32)


def test_deep_networks_without_norm_keep_their_scale():
    torch.manual_seed(0)
    deep = patch_resnet(SPEC, widths=(16, 16), blocks=(20, 20), hidden=None, stem_width=16,
                        stem_kernel=3, stem_pool=False)  # fmt: skip
    with torch.no_grad():
        z = deep.maps(torch.randn(4, 1, 16, 16))
    assert 0.05 < z.std() < 20


def test_wrong_lists_are_refused():
    with pytest.raises(ValueError, match=r"widths=\(8,\), blocks=\(1, 1\)"):
        patch_resnet(SPEC, widths=(8,), blocks=(1, 1), hidden=None)


def test_a_recipe_can_store_it():
    from unlabeled.recipe import describe, rebuild

    builder = partial(patch_resnet, **TINY, norm=layer_norm)
    again = rebuild(describe(builder))(SPEC)
    assert again.state_dict().keys() == builder(SPEC).state_dict().keys()
