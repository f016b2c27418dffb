from functools import partial

import pytest
import torch
from torch import nn

from unlabeled.nn.biggan import (
    ConditionalNorm,
    Generator,
    ImageTrunk,
    ResidualMLP,
    SelfAttention,
    normed_linear,
    spectral_conv,
    spectral_linear,
)


def test_a_spectral_layer_has_the_largest_singular_value_one_and_starts_orthogonal():
    torch.manual_seed(0)
    layer = spectral_linear(6, 4)
    original = layer.parametrizations.weight.original
    torch.testing.assert_close(original @ original.T, torch.eye(4), rtol=0, atol=1e-5)
    with torch.no_grad():
        original.copy_(5 * torch.randn(4, 6))
        for _ in range(60):  # a power iteration a pass
            layer(torch.zeros(1, 6))
    assert torch.linalg.svdvals(layer.weight)[0].item() == pytest.approx(1, abs=1e-3)
    assert not layer.bias.any()


def test_every_layer_of_the_trunk_and_its_like_is_spectral():
    mlp = ResidualMLP(6, 8, blocks=2, linear=spectral_linear)
    for network in (ImageTrunk(1, widths=(8, 8, 16)), Generator(1, 16, widths=(8, 8, 8)), mlp):
        layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        assert layers
        assert all(hasattr(layer, "parametrizations") for layer in layers)


def test_the_residual_mlp_equals_its_equation():
    torch.manual_seed(0)
    network = ResidualMLP(5, 7, blocks=2, linear=nn.Linear)
    x = torch.randn(3, 5)
    one, other = network.first, network.second
    h = network.shortcut(x) + other[0](torch.relu(one[0](x)))
    h = h + other[1](torch.relu(one[1](torch.relu(h))))
    torch.testing.assert_close(network(x), torch.relu(h))
    assert isinstance(ResidualMLP(7, 7, blocks=1, linear=nn.Linear).shortcut, nn.Identity)
    assert ResidualMLP(5, 7, blocks=1, linear=normed_linear)(x).shape == (3, 7)
    with pytest.raises(ValueError, match="blocks is 0"):
        ResidualMLP(5, 7, blocks=0, linear=nn.Linear)


def test_attention_starts_as_the_identity_and_equals_the_loop():
    torch.manual_seed(0)
    layer = SelfAttention(16).eval()
    x = torch.randn(2, 16, 4, 4)
    assert torch.equal(layer(x), x)
    with torch.no_grad():
        layer.gamma.fill_(0.7)
    pooled = partial(torch.nn.functional.max_pool2d, kernel_size=2)
    q, k, v = layer.query(x), pooled(layer.key(x)), pooled(layer.value(x))
    seen = torch.zeros(2, 8, 4, 4)
    for b in range(2):
        for i in range(16):
            row, column = divmod(i, 4)
            logits = torch.stack([q[b, :, row, column] @ k[b].flatten(1)[:, j] for j in range(4)])
            for j, weight in enumerate(logits.softmax(0)):
                seen[b, :, row, column] += weight * v[b].flatten(1)[:, j]
    torch.testing.assert_close(layer(x), x + 0.7 * layer.out(seen), rtol=1e-4, atol=1e-5)


def test_the_conditional_norm_scales_and_shifts_by_its_condition():
    torch.manual_seed(0)
    norm = ConditionalNorm(3, 4)
    x, c = torch.randn(8, 3, 5, 5), torch.randn(8, 4)
    assert torch.allclose(norm(x, torch.zeros(8, 4)).mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    norm.eval()
    expected = norm.norm(x) * (1 + c @ norm.scale.weight.T)[:, :, None, None]
    expected = expected + (c @ norm.center.weight.T)[:, :, None, None]
    torch.testing.assert_close(norm(x, c), expected)


def test_the_generator_cuts_its_latent_and_reaches_the_size():
    network = Generator(3, 28, widths=(16, 8, 8), latent=20)
    assert network.parts == [7, 7, 6]
    assert network.start == 7
    made = network(torch.randn(2, 20))
    assert made.shape == (2, 3, 28, 28)
    assert made.abs().max() <= 1
    with torch.device("meta"):
        paper = Generator(3, 128)
        assert paper.parts == [20] * 6
        assert paper(torch.empty(2, 120)).shape == (2, 3, 128, 128)
        places = [isinstance(each, SelfAttention) for each in paper.attention]
    assert places == [False, False, False, True, False]  # 64 px


def test_each_part_of_the_latent_matters():
    torch.manual_seed(0)
    network = Generator(1, 8, widths=(8, 8), latent=6, attention=None).eval()
    z = torch.randn(1, 6)
    for place in range(6):
        moved = z.clone()
        moved[:, place] += 1
        assert not torch.equal(network(moved), network(z))


def test_sizes_and_attention_that_do_not_fit():
    with pytest.raises(ValueError, match="14 px is no multiple of 4"):
        Generator(1, 14, widths=(8, 8, 8))
    with pytest.raises(ValueError, match="attention is 8: give 1, 2 or None"):
        Generator(1, 16, widths=(8, 8, 8), attention=8)
    with pytest.raises(ValueError, match="attention is 8: give 2, 4 or None"):
        ImageTrunk(1, widths=(8, 8, 8), attention=8)


def test_the_trunk_sums_over_positions():
    torch.manual_seed(0)
    network = ImageTrunk(1, widths=(8, 16, 24), attention=2)
    assert network(torch.randn(2, 1, 28, 28)).shape == (2, 24)
    assert network.dim == 24
    with torch.device("meta"):
        paper = ImageTrunk(3)
        assert paper(torch.empty(2, 3, 128, 128)).shape == (2, 1536)
        assert isinstance(paper.attention[0], SelfAttention)  # 64 px
    one = ImageTrunk(1, widths=(8, 16), attention=None)
    seen = []
    one.blocks[-1].register_forward_hook(lambda module, given, out: seen.append(out))
    y = one(torch.randn(2, 1, 8, 8))
    torch.testing.assert_close(y, seen[0].relu().sum((2, 3)))


def test_an_optional_bias():
    assert spectral_conv(2, 3, 3, bias=False).bias is None
