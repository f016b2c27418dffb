import math

import pytest
import torch
import torch.nn.functional as F

from unlabeled.losses.dense import dense_info_nce, matches


def maps(seed=0, batch=2, dim=6, places=9):
    return torch.randn(batch, dim, places, generator=torch.Generator().manual_seed(seed))


def test_a_map_matches_itself_and_follows_a_permutation():
    one, order = maps(), torch.randperm(9)
    assert torch.equal(matches(one, 3 * one), torch.arange(9).expand(2, -1))
    match = matches(one, one[:, :, order])
    assert torch.equal(order[match], torch.arange(9).expand(2, -1))
    q, k, bank = maps(1), maps(2), F.normalize(torch.randn(5, 6), dim=1)
    before = dense_info_nce(q, k, matches(one, one), bank, temperature=0.2)
    after = dense_info_nce(q, k[:, :, order], match, bank, temperature=0.2)
    torch.testing.assert_close(before, after)


def test_alike_rows_and_perfect_matches_by_hand():
    q = torch.zeros(1, 2, 4)
    q[:, 0] = 1
    match = torch.arange(4)[None]
    same = torch.tensor([1.0, 0.0]).expand(65536, 2)
    other = torch.tensor([0.0, 1.0]).expand(65536, 2)
    alike = dense_info_nce(q, q, match, same, temperature=0.2)
    assert alike.item() == pytest.approx(math.log(65537), abs=1e-3)
    assert dense_info_nce(q, q, match, other, temperature=0.2).item() == pytest.approx(
        6.0926, abs=1e-3
    )


def test_it_is_the_loop_over_locations():
    q, k, bank = maps(1), maps(2, places=7), F.normalize(torch.randn(5, 6), dim=1)
    match = torch.randint(7, (2, 9))
    total = []
    for sample in range(2):
        for place in range(9):
            one = F.normalize(q[sample, :, place], dim=0)
            key = F.normalize(k[sample, :, match[sample, place]], dim=0)
            logits = torch.cat([(one @ key)[None], bank @ one]) / 0.2
            total.append(-logits.log_softmax(0)[0])
    found = dense_info_nce(q, k, match, bank, temperature=0.2)
    torch.testing.assert_close(found, torch.stack(total).mean())
