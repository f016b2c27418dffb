import pytest
import torch
import torch.nn.functional as F

from unlabeled.ops.pairs import in_batch


def test_equals_the_loop():
    z1, z2 = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    positives, negatives = in_batch(z1, z2)
    views = F.normalize(torch.cat([z1, z2]), dim=1)
    assert negatives.shape == (8, 6)
    for anchor in range(8):
        sample = anchor % 4
        expected = [views[anchor] @ views[k] for k in range(8) if k % 4 != sample]
        torch.testing.assert_close(negatives[anchor], torch.stack(expected))
        partner = (anchor + 4) % 8
        torch.testing.assert_close(positives[anchor], views[anchor] @ views[partner])


def test_refuses_a_single_sample_and_unequal_views():
    with pytest.raises(ValueError, match="batch of 1 sample"):
        in_batch(torch.ones(1, 2), torch.ones(1, 2))
    with pytest.raises(ValueError, match="give equal ones"):
        in_batch(torch.ones(2, 2), torch.ones(3, 2))
