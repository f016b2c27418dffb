import pytest
import torch

from unlabeled.data.pairs import PairSpec
from unlabeled.encoders.flow import correlation, pwc_lite


def narrow(**options):
    torch.manual_seed(0)
    sizes = {"widths": (4, 8, 8), "decoder": (8, 8, 8), "context": (8, 8), "features": 4}
    return pwc_lite(PairSpec(height=16, width=32), **{**sizes, "radius": 2, "skip": 0, **options})


def test_the_paper_s_network_has_2_3_million_weights_and_five_outputs():
    encoder = pwc_lite(PairSpec(height=64, width=128))
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(2.2e6, rel=0.06)
    flows = encoder.flows(torch.rand(1, 2, 3, 64, 128))
    assert [tuple(flow.shape[2:]) for flow in flows] == [
        (64 // 2**level, 128 // 2**level) for level in range(5)
    ]


def test_correlation_is_highest_at_the_shift():
    torch.manual_seed(0)
    x = torch.nn.functional.normalize(torch.randn(1, 16, 9, 9), dim=1)
    costs = correlation(x, x.roll((1, -2), dims=(2, 3)), radius=2)
    best = costs[0, :, 3:6, 3:6].argmax(0)
    assert (best == (1 + 2) * 5 + (-2 + 2)).all()
    assert costs[0, 15, 4, 4].item() == pytest.approx(1 / 16, rel=1e-4)


def test_frames_of_other_sizes_are_enlarged_and_their_flow_brought_back():
    encoder = narrow()
    pairs = torch.rand(2, 2, 3, 15, 30)
    flow = encoder.flow(pairs)
    assert flow.shape == (2, 2, 15, 30)
    whole = torch.nn.functional.interpolate(
        pairs.flatten(0, 1), (16, 32), mode="bilinear", align_corners=True
    )
    full = encoder.flows(whole.view(2, 2, 3, 16, 32))[0]
    small = torch.nn.functional.interpolate(full, (15, 30), mode="bilinear", align_corners=True)
    torch.testing.assert_close(flow[:, 0], small[:, 0] * 30 / 32)
    torch.testing.assert_close(flow[:, 1], small[:, 1] * 15 / 16)


def test_all_levels_share_one_decoder():
    encoder = narrow()
    assert sum(p.numel() for p in encoder.decoder.parameters()) == sum(
        p.numel() for name, p in encoder.named_parameters() if "decoder" in name
    )
    encoder.flows(torch.rand(1, 2, 3, 16, 32))[-1].sum().backward()
    assert encoder.decoder.predict.weight.grad.abs().sum() > 0


def test_embeddings_are_of_the_first_frames():
    encoder = narrow()
    pairs = torch.rand(3, 2, 3, 16, 32)
    z = encoder(pairs)
    assert z.shape == (3, 8)
    other = torch.stack([pairs[:, 0], torch.rand(3, 3, 16, 32)], 1)
    torch.testing.assert_close(encoder(other), z)
