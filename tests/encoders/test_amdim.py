import pytest
import torch
import torch.nn.functional as F

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.amdim import PooledBlock, amdim_encoder, amdim_map


def spec_of(size):
    return ImageSpec(channels=3, size=size, mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.mark.parametrize(("size", "factor"), [(32, 4), (64, 8), (128, 8)])
def test_maps_have_the_papers_sides(size, factor):
    encoder = amdim_encoder(spec_of(size), width=8, depth=2, dim=64)
    x = torch.randn(2, 3, size, size)
    shapes = [tuple(each.shape) for each in encoder.scales(x)]
    wide = 8 * factor
    assert shapes == [(2, 64, 1, 1), (2, wide, 5, 5), (2, wide, 7, 7)]
    assert encoder(x).shape == (2, 64)
    trunk = amdim_map(spec_of(size), width=8, depth=2)
    assert trunk.maps(x).shape == (2, wide, 5, 5)
    assert trunk.dim == wide


def test_a_block_starts_as_its_pooled_shortcut():
    block = PooledBlock(8, 12, window=3, stride=1)
    x = torch.randn(2, 8, 7, 7)
    expected = F.pad(F.avg_pool2d(x, 3, 1), (0, 0, 0, 0, 0, 4))
    torch.testing.assert_close(block(x), expected)
    same = PooledBlock(8, 8, window=1, stride=1)
    assert torch.equal(same(x), x)


def test_nothing_is_padded_so_a_location_sees_its_window_only():
    trunk = amdim_map(spec_of(32), width=8, depth=1).double()
    for module in trunk.modules():
        if isinstance(module, PooledBlock):
            torch.nn.init.normal_(module.conv2.weight)
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(trunk.maps(x)[0, :, 0, 0].sum(), x)
    seen = (gradient[0].abs().sum(0) > 0).nonzero()
    assert seen.max() < 20


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match="32, 64, 128 px, not 28"):
        amdim_map(spec_of(28), width=8, depth=1)
    with pytest.raises(ValueError, match="dim is 16, the maps have 32 channels"):
        amdim_encoder(spec_of(32), width=8, depth=1, dim=16)
