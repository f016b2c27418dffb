import math

import pytest
import torch
import torch.nn.functional as F

from unlabeled.losses.contrastive import nt_xent
from unlabeled.losses.multi_positive import multi_positive_nt_xent


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def weights(samples, seed=2):
    return torch.rand(2 * samples, samples, generator=torch.Generator().manual_seed(seed)).double()


def slow(z1, z2, also, temperature):
    """Eq. 2 of SupCon with weights, anchor by anchor; a place is (sample, view)."""
    samples = len(z1)
    z = {(n, v): view[n] / view[n].norm() for v, view in ((0, z1), (1, z2)) for n in range(samples)}
    total = 0.0
    for (n, v), anchor in z.items():
        below = sum((anchor @ z[key] / temperature).exp() for key in z if key != (n, v))
        parts, norm = 0.0, 0.0
        for key, other in z.items():
            if key == (n, v):
                continue
            weight = 1.0 if key[0] == n else also[v * samples + n, key[0]].item()
            parts = parts - weight * ((anchor @ other / temperature).exp() / below).log()
            norm += weight
        total = total + parts / norm
    return total / (2 * samples)


def test_equals_the_loop():
    z1, z2, also = randn(5, 4), randn(5, 4, seed=1), weights(5)
    for temperature in (0.1, 0.5):
        loss = multi_positive_nt_xent(z1, z2, also, temperature=temperature)
        torch.testing.assert_close(loss, slow(z1, z2, also, temperature))


def test_without_further_positives_it_is_nt_xent():
    z1, z2 = randn(6, 4), randn(6, 4, seed=1)
    loss = multi_positive_nt_xent(z1, z2, torch.zeros(12, 6), temperature=0.2)
    torch.testing.assert_close(loss, nt_xent(z1, z2, temperature=0.2))


def test_the_anchors_own_sample_keeps_its_weight():
    z1, z2, also = randn(4, 3), randn(4, 3, seed=1), weights(4)
    changed = also.clone()
    changed[torch.arange(8), torch.arange(4).repeat(2)] = 100.0
    one, other = (multi_positive_nt_xent(z1, z2, w, temperature=0.3) for w in (also, changed))
    assert torch.equal(one, other)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_equal_embeddings_give_the_log_of_the_number_of_candidates(share):
    z = torch.ones(4, 3, dtype=torch.float64)
    loss = multi_positive_nt_xent(z, z, torch.full((8, 4), share), temperature=0.1)
    assert loss.item() == pytest.approx(math.log(7))


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_two_opposite_clusters_with_their_classes_as_positives(temperature):
    side = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, -1.0], dtype=torch.float64)
    z = torch.stack([side, torch.zeros_like(side)], 1)
    same = (side[:, None] == side).double().repeat(2, 1)
    loss = multi_positive_nt_xent(z, z, same, temperature=temperature)
    n = 6  # views of a class
    assert loss.item() == pytest.approx(math.log(n - 1 + n * math.exp(-2 / temperature)))


def test_gradient():
    z1, z2, also = randn(4, 3).requires_grad_(), randn(4, 3, seed=1).requires_grad_(), weights(4)
    assert torch.autograd.gradcheck(
        lambda a, b: multi_positive_nt_xent(a, b, also, temperature=0.3), (z1, z2)
    )


def test_a_step_brings_a_mined_pair_closer():
    z1, z2 = randn(6, 8).requires_grad_(), randn(6, 8, seed=1).requires_grad_()
    also = torch.zeros(12, 6)
    also[0, 3] = 1.0  # the first view of sample 0 is to approach both views of sample 3

    def similarity(a, b):
        return F.cosine_similarity(a[0], a[3], dim=0) + F.cosine_similarity(a[0], b[3], dim=0)

    gains = []
    for chosen in (also, torch.zeros_like(also)):
        loss = multi_positive_nt_xent(z1, z2, chosen, temperature=0.5)
        g1, g2 = torch.autograd.grad(loss, (z1, z2))
        gains.append(similarity(z1 - g1, z2 - g2) - similarity(z1, z2))
    assert gains[0] > 0
    assert gains[0] > gains[1]


def test_float32_under_autocast_and_finite_at_a_tiny_temperature():
    z1, z2 = randn(8, 6, dtype=torch.float32), randn(8, 6, seed=1, dtype=torch.float32)
    also = weights(8).float()
    plain = multi_positive_nt_xent(z1, z2, also, temperature=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(multi_positive_nt_xent(z1, z2, also, temperature=0.1), plain)
        half = multi_positive_nt_xent(z1.bfloat16(), z2.bfloat16(), also, temperature=0.1)
    assert half.dtype == torch.float32
    assert multi_positive_nt_xent(z1, z2, also, temperature=0.001).isfinite()


def test_says_what_is_wrong():
    z, also = torch.ones(2, 3), torch.zeros(4, 2)
    with pytest.raises(ValueError, match="temperature is 0"):
        multi_positive_nt_xent(z, z, also, temperature=0)
    with pytest.raises(ValueError, match=r"\[2, 3\] and \[1, 3\]"):
        multi_positive_nt_xent(z, z[:1], also, temperature=1)
    with pytest.raises(ValueError, match=r"weights are \[2, 2\]: give \[4, 2\]"):
        multi_positive_nt_xent(z, z, also[:2], temperature=1)
