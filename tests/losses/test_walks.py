import math

import pytest
import torch

from unlabeled.losses.walks import palindromes, return_loss, transitions


def nodes(batch=2, frames=4, count=5, dim=8):
    torch.manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(batch, frames, count, dim), dim=3)


def test_walkers_go_somewhere():
    q = nodes()
    for walk in (
        transitions(q[:, 0], q[:, 1], temperature=0.1),
        *palindromes(q, temperature=0.1, dropped=torch.rand(2, 6, 5, 5) < 0.2),
    ):
        torch.testing.assert_close(walk.sum(2), torch.ones(2, 5))


def test_nodes_that_stay_are_found_again_and_alike_ones_are_not():
    same = torch.eye(7)[None, None].expand(1, 4, 7, 7)
    for walk in palindromes(same, temperature=0.01):
        torch.testing.assert_close(walk[0], torch.eye(7))
        assert return_loss(walk).item() == pytest.approx(0, abs=1e-6)
    flat = torch.ones(1, 4, 49, 3)
    for walk in palindromes(flat, temperature=0.07):
        assert return_loss(walk).item() == pytest.approx(math.log(49), abs=1e-4)


def test_what_lies_between_may_be_in_any_order():
    q = nodes()
    mixed = q.clone()
    mixed[:, 1] = q[:, 1, torch.randperm(5)]
    for one, other in zip(
        palindromes(q, temperature=0.1), palindromes(mixed, temperature=0.1), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_walks_are_the_products_in_the_paper_s_order():
    q = nodes(frames=3)
    dropped = torch.rand(2, 4, 5, 5) < 0.2
    step = [
        transitions(q[:, a], q[:, b], temperature=0.2, dropped=dropped[:, row])
        for row, (a, b) in enumerate(((0, 1), (1, 2), (1, 0), (2, 1)))
    ]
    short, long = palindromes(q, temperature=0.2, dropped=dropped)
    torch.testing.assert_close(short, step[0] @ step[2])
    torch.testing.assert_close(long, step[0] @ step[1] @ step[3] @ step[2])
    (only,) = palindromes(q, temperature=0.2, dropped=dropped, shortest=2)
    torch.testing.assert_close(only, long)


def test_a_dropped_edge_is_not_taken_and_the_others_share_it():
    q = nodes(count=3)
    dropped = torch.zeros(2, 3, 3, dtype=torch.bool)
    dropped[:, 0, 1] = True
    walk = transitions(q[:, 0], q[:, 1], temperature=0.5, dropped=dropped)
    assert (walk[:, 0, 1] == 0).all()
    torch.testing.assert_close(walk.sum(2), torch.ones(2, 3))


def test_the_gradient_reaches_the_frames_between():
    q = nodes().requires_grad_()
    return_loss(palindromes(q, temperature=0.1)[-1]).backward()
    assert (q.grad.flatten(2).norm(dim=2) > 0).all()
