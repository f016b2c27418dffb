import math

import pytest
import torch
import torch.nn.functional as F

from unlabeled.methods.image import mochi, moco_v2
from unlabeled.methods.image.mochi import MoCHi, mix_pairs, mix_queries
from unlabeled.methods.image.moco import MoCo
from unlabeled.methods.image.moco_v2 import mlp_head
from unlabeled.schedule import Clock
from unlabeled.views.generator import SampleGenerator

LATE = Clock(50, 100, 10)


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def draws(batch, seed=0):
    return SampleGenerator(seed, 0, torch.arange(batch))


def built(given, no_head, *, dim=4, clock=LATE, **options):
    settings = {"queue": 32, "hardest": 4, "pairs": 3, "queries": 2, "warmup": 0.1, **options}
    method = MoCHi(given(dim), head=no_head, dim=dim, **settings)
    method.clock = clock
    return method


def loss_of(method, batch):
    (value,) = method.loss(batch).values()
    return value


class Fixed(SampleGenerator):
    """Draws the upper end of each range and the first place."""

    def uniform(self, *shape, low=0.0, high=1.0):
        return torch.full((len(self), *shape), high)

    def integers(self, *shape, high):
        return torch.zeros(len(self), *shape, dtype=torch.int64)


def test_mixed_negatives_lie_on_the_sphere_between_their_parts():
    bank, q = unit(50, 8), 3 * unit(6, 8, seed=1)
    places = (q @ bank.T).topk(5, dim=1).indices
    pairs = mix_pairs(bank, places, draws(6), count=40)
    queries = mix_queries(q, bank, places, draws(6), count=40)
    for mixed in (pairs, queries):
        assert mixed.shape == (6, 40, 8)
        torch.testing.assert_close(mixed.norm(dim=2), torch.ones(6, 40))
    similarity = F.normalize(q, dim=1) @ bank.T
    least = similarity.gather(1, places).amin(1, keepdim=True)
    assert (least > 0).all()
    for mixed in (pairs, queries):
        own = torch.einsum("bd,bsd->bs", F.normalize(q, dim=1), mixed)
        assert (own >= least - 1e-6).all()


def test_a_pair_of_one_key_is_that_key():
    bank = unit(9, 4)
    places = torch.tensor([[7], [2]])
    mixed = mix_pairs(bank, places, draws(2), count=5)
    torch.testing.assert_close(mixed, bank[places].expand(2, 5, 4))


def test_a_query_mixed_with_a_key_is_always_harder_than_the_key():
    bank, q = unit(30, 4), unit(8, 4, seed=1)
    places = torch.arange(8)[:, None]  # one source a query, so that it is known
    mixed = mix_queries(q, bank, places, draws(8), count=200)
    before = (q * bank[:8]).sum(1, keepdim=True)
    after = torch.einsum("bd,bsd->bs", q, mixed)
    assert (after >= before - 1e-6).all()
    # the share is below one half: the key is nearer than the query
    assert (after <= torch.einsum("bd,bsd->bs", bank[:8], mixed) + 1e-6).all()


def test_the_largest_share_of_an_orthogonal_query():
    bank, q = torch.eye(4)[:1], torch.eye(4)[1:2]
    generator = Fixed(0, 0, torch.arange(1))
    (mixed,) = mix_queries(q, bank, torch.zeros(1, 1, dtype=torch.int64), generator, count=1)
    assert (mixed @ q[0]).item() == pytest.approx(1 / math.sqrt(2), abs=1e-5)


def test_only_the_hardest_keys_of_each_query_are_mixed(given, no_head, pair):
    """Two queries, each with its own plane of hard keys; all other keys are far from both."""
    method = built(given, no_head, dim=6, queue=40, hardest=4, pairs=50, queries=0)
    bank = torch.zeros(40, 6)
    bank[:, 4] = -1.0  # far
    near = unit(8, 2, seed=3).abs()
    bank[3:7, :2], bank[20:24, 2:4] = near[:4], near[4:]
    bank[3:7, 4] = bank[20:24, 4] = 0.0
    method.queue.rows.copy_(bank)
    q = torch.tensor([[1.0, 1.0, 0, 0, 1, 0], [0, 0, 1.0, 1.0, 1, 0]])
    seen = []
    original = mochi.mix_pairs

    def spy(*arguments, **options):
        seen.append(original(*arguments, **options))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mochi, "mix_pairs", spy)
        loss_of(method, pair(q, torch.randn(2, 6)))
    (mixed,) = seen
    assert mixed[0, :, 2:].abs().max() < 1e-6
    assert mixed[1, :, [0, 1, 4, 5]].abs().max() < 1e-6


def test_loss_equals_the_loop(given, no_head, pair):
    method = built(given, no_head, temperature=0.5)
    q, k, bank = torch.randn(3, 4), torch.randn(3, 4), method.queue.rows.clone()
    value = loss_of(method, pair(q, k)).item()
    generator = SampleGenerator(mochi.NO_RUN, LATE.step, torch.arange(3))
    first, second = generator.integers(3, high=4), generator.integers(3, high=4)
    alpha, third = generator.uniform(3), generator.integers(2, high=4)
    beta, total = generator.uniform(2, high=0.5), 0.0
    for n, (row, key) in enumerate(zip(F.normalize(q, dim=1), F.normalize(k, dim=1), strict=True)):
        order = sorted(range(32), key=lambda m: -(row @ bank[m]).item())[:4]
        others = list(bank)
        for s in range(3):
            a, b = bank[order[first[n, s]]], bank[order[second[n, s]]]
            h = alpha[n, s] * a + (1 - alpha[n, s]) * b
            others.append(h / h.norm())
        for s in range(2):
            h = beta[n, s] * row + (1 - beta[n, s]) * bank[order[third[n, s]]]
            others.append(h / h.norm())
        below = sum(math.exp(2 * (row @ other).item()) for other in others)
        top = math.exp(2 * (row @ key).item())
        total -= math.log(top / (top + below)) / 3
    assert value == pytest.approx(total, rel=1e-5)


def test_the_warmup_is_moco_v2_bit_for_bit(encoder, views):
    torch.manual_seed(0)
    plain = MoCo(encoder, head=mlp_head, dim=8, queue=16, temperature=0.2, batchnorm_splits=2)
    method = MoCHi(encoder, dim=8, queue=16, hardest=4, warmup=0.1, batchnorm_splits=2)
    method.load_state_dict(plain.state_dict())
    for step in (0, 9):
        plain.clock = method.clock = Clock(step, 100, 10)
        assert torch.equal(loss_of(method, views(4)), loss_of(plain, views(4)))
        assert torch.equal(method.queue.rows, plain.queue.rows)
    plain.clock = method.clock = Clock(10, 100, 10)
    assert loss_of(method, views(4)) > loss_of(plain, views(4)) + 0.1


def test_without_synthesis_it_is_moco_v2(encoder, views):
    plain = MoCo(encoder, head=mlp_head, dim=8, queue=16, temperature=0.2, batchnorm_splits=2)
    method = MoCHi(encoder, dim=8, queue=16, hardest=4, pairs=0, queries=0, batchnorm_splits=2)
    method.load_state_dict(plain.state_dict())
    plain.clock = method.clock = LATE
    torch.testing.assert_close(loss_of(method, views(4)), loss_of(plain, views(4)))


def test_unrelated_keys_still_leave_harder_synthetic_ones(given, no_head, pair):
    """All real logits are 0: pairs have 0 as well, mixed queries more."""
    method = built(given, no_head, dim=3, pairs=5, queries=0)
    method.queue.rows.copy_(torch.tensor([0.0, 0.0, 1.0]).expand(32, 3))
    q, k = torch.eye(3)[:1], torch.eye(3)[1:2]
    assert loss_of(method, pair(q, k)).item() == pytest.approx(math.log(1 + 32 + 5), rel=1e-5)
    method = built(given, no_head, dim=3, pairs=5, queries=4)
    method.queue.rows.copy_(torch.tensor([0.0, 0.0, 1.0]).expand(32, 3))
    assert loss_of(method, pair(q, k)).item() > math.log(1 + 32 + 5 + 4) + 0.01


def test_gradient_goes_to_the_query_of_each_product_only(given, no_head, pair):
    """Synthetic negatives are constants, the query inside of them too."""
    method = built(given, no_head, temperature=0.5)
    q, k = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("mix_pairs", "mix_queries"):
            original = getattr(mochi, name)

            def spy(*arguments, original=original, **options):
                kept.append(original(*arguments, **options))
                return kept[-1]

            patch.setattr(mochi, name, spy)
        bank = method.queue.rows.clone()
        loss_of(method, pair(q, k)).backward()
    assert k.grad is None
    assert not any(mixed.requires_grad for mixed in kept)
    assert not method.queue.rows.requires_grad
    again = q.detach().clone().requires_grad_()
    row = F.normalize(again, dim=1)
    logits = torch.cat(
        [
            (row * F.normalize(k.detach(), dim=1)).sum(1, keepdim=True),
            row @ bank.T,
            *(torch.einsum("bd,bsd->bs", row, mixed) for mixed in kept),
        ],
        1,
    )
    assert logits.shape == (3, 1 + 32 + 3 + 2)
    F.cross_entropy(logits / 0.5, torch.zeros(3, dtype=torch.int64)).backward()
    torch.testing.assert_close(q.grad, again.grad)


def test_only_real_keys_enter_the_queue(given, no_head, pair):
    method = built(given, no_head)
    keys = torch.randn(3, 4)
    before = method.queue.rows.clone()
    loss_of(method, pair(torch.randn(3, 4), keys))
    torch.testing.assert_close(method.queue.rows[:3], F.normalize(keys, dim=1))
    assert torch.equal(method.queue.rows[3:], before[3:])


def test_what_is_mixed_depends_on_the_sample_and_the_step_not_on_its_place(given, no_head):
    q, k = torch.randn(6, 4), torch.randn(6, 4)
    index, order = torch.tensor([5, 80, 3, 41, 9, 700]), torch.tensor([4, 2, 0, 5, 1, 3])
    bank = unit(32, 4)

    def run(places, step):
        method = built(given, no_head, clock=Clock(step, 100, 10))
        method.queue.rows.copy_(bank)
        return loss_of(method, {"views": [q[places], k[places]], "index": index[places]})

    torch.testing.assert_close(run(order, 50), run(torch.arange(6), 50))
    assert run(order, 50) != run(order, 51)


def test_more_hard_keys_than_keys_is_refused(given, no_head):
    with pytest.raises(ValueError, match="hardest is 33, the queue has 32 keys"):
        built(given, no_head, hardest=33)


def test_recipe_is_moco_v2_with_synthesis():
    one, two = moco_v2.paper(), mochi.paper()
    assert (two.epochs, two.optim.lr(Clock(1, 2, 1))) == (200, pytest.approx(0.015))
    assert (one.data, one.batch_size, one.views) == (two.data, two.batch_size, two.views)
    assert two.sync_batchnorm is False
    with torch.device("meta"):
        method = two.build()
    assert (method.hardest, method.pairs, method.queries) == (1024, 512, 256)
    assert len(method.queue.rows) == 65536
    assert two.epochs * method.warmup == 10
    assert (method.momentum, method.temperature, method.batchnorm_splits) == (0.999, 0.2, 8)
