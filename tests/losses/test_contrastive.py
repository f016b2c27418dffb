import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from unlabeled.losses import contrastive
from unlabeled.losses.contrastive import info_nce, nt_xent


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def slow_nt_xent(z1, z2, temperature):
    z = torch.cat([z1, z2])
    n = len(z1)

    def similarity(i, j):
        return z[i] @ z[j] / (z[i].norm() * z[j].norm()) / temperature

    total = 0.0
    for i in range(2 * n):
        below = sum(similarity(i, k).exp() for k in range(2 * n) if k != i)
        total = total - (similarity(i, (i + n) % (2 * n)).exp() / below).log()
    return total / (2 * n)


def slow_info_nce(q, k, bank, temperature):
    total = 0.0
    for i in range(len(q)):
        query, key = q[i] / q[i].norm(), k[i] / k[i].norm()
        positive = (query @ key / temperature).exp()
        negatives = sum((query @ row / temperature).exp() for row in bank)
        total = total - (positive / (positive + negatives)).log()
    return total / len(q)


def test_nt_xent_equals_the_loop():
    z1, z2 = randn(5, 4), randn(5, 4, seed=1)
    for temperature in (0.1, 0.5, 2.0):
        slow = slow_nt_xent(z1, z2, temperature)
        torch.testing.assert_close(nt_xent(z1, z2, temperature=temperature), slow)


@pytest.mark.parametrize(("pairs", "value"), [(2, 1.0986), (4, 1.9459), (256, 6.2364)])
def test_nt_xent_of_equal_embeddings(pairs, value):
    z = torch.ones(pairs, 3)
    assert nt_xent(z, z, temperature=0.3).item() == pytest.approx(value, abs=1e-4)
    assert value == pytest.approx(math.log(2 * pairs - 1), abs=1e-4)


@pytest.mark.parametrize(
    ("pairs", "temperature", "value"), [(2, 0.5, 0.23954), (4, 0.5, 0.59444), (4, 0.1, 0.000272)]
)
def test_nt_xent_of_aligned_pairs_that_are_orthogonal_to_each_other(pairs, temperature, value):
    z = torch.eye(pairs)
    assert nt_xent(z, 3 * z, temperature=temperature).item() == pytest.approx(value, abs=1e-5)


def test_nt_xent_symmetries():
    z1, z2 = randn(6, 4), randn(6, 4, seed=1)
    loss = nt_xent(z1, z2, temperature=0.2)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(nt_xent(z2, z1, temperature=0.2), loss)
    torch.testing.assert_close(nt_xent(z1[order], z2[order], temperature=0.2), loss)
    torch.testing.assert_close(nt_xent(7 * z1, 0.1 * z2, temperature=0.2), loss)
    assert (nt_xent(z1, z2[order], temperature=0.2) - loss).abs() > 0.01


def test_nt_xent_gradient():
    z1, z2 = randn(4, 3).requires_grad_(), randn(4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, temperature=0.3), (z1, z2))
    nt_xent(z1, z2, temperature=0.3).backward()
    torch.testing.assert_close((z1.grad * z1).sum(1), torch.zeros(4, dtype=torch.float64))


def in_blocks(z, *, form, temperature=0.2):
    if form == "rows":
        return contrastive._NtXentOfRows.apply(z, temperature, 8)
    return contrastive._NtXent.apply(z, temperature, 8, form == "kept")


@pytest.mark.parametrize("form", ["rows", "recomputed", "kept"])
@pytest.mark.parametrize("pairs", [1, 4, 8, 9])  # blocks of 8 rows: one, two exact, a ragged third
def test_nt_xent_in_blocks_equals_the_loop(pairs, form):
    z = F.normalize(randn(2 * pairs, 5), dim=1).requires_grad_()
    loss, slow = in_blocks(z, form=form), slow_nt_xent(z[:pairs], z[pairs:], 0.2)
    torch.testing.assert_close(loss, slow)
    # the loop normalizes: compare the part of the gradient that is tangent to the sphere
    (by_blocks,) = torch.autograd.grad(3 * loss, z)
    tangent = by_blocks - (by_blocks * z).sum(1, keepdim=True) * z
    (expected,) = torch.autograd.grad(3 * slow, z)
    torch.testing.assert_close(tangent, expected)
    assert torch.autograd.gradcheck(lambda x: in_blocks(x, form=form), (z,))


@pytest.mark.parametrize("kept_rows", [0, 1000])
@pytest.mark.parametrize("temperature", [0.01, 0.024, 0.026, 0.1])
def test_nt_xent_has_the_same_value_whatever_the_form(monkeypatch, temperature, kept_rows):
    z1, z2 = randn(20, 6).requires_grad_(), randn(20, 6, seed=1).requires_grad_()
    slow = slow_nt_xent(z1, z2, temperature)
    expected = torch.autograd.grad(slow, (z1, z2))
    monkeypatch.setattr(contrastive, "_KEPT_ROWS", kept_rows)
    monkeypatch.setattr(contrastive, "_BLOCK", 16)
    loss = nt_xent(z1, z2, temperature=temperature)
    form = "NtXentOfRows" if temperature < contrastive._SAFE_TEMPERATURE else "NtXentBackward"
    assert form in loss.grad_fn.name()
    torch.testing.assert_close(loss, slow)
    torch.testing.assert_close(torch.autograd.grad(loss, (z1, z2)), expected)


@pytest.mark.parametrize("temperature", [0.01, 0.1])
def test_nt_xent_never_holds_the_matrix_of_a_large_batch(monkeypatch, temperature):
    monkeypatch.setattr(contrastive, "_KEPT_ROWS", 0)
    monkeypatch.setattr(contrastive, "_BLOCK", 16)
    z1, z2 = randn(300, 4).requires_grad_(), randn(300, 4, seed=1)

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            for tensor in tree_leaves(out):
                if isinstance(tensor, torch.Tensor):
                    self.size = max(self.size, tensor.numel())
            return out

    with Largest() as largest:
        nt_xent(z1, z2, temperature=temperature).backward()
    assert 0 < largest.size <= 600 * 4  # the anchors themselves; all logits would be 360,000


@pytest.mark.parametrize("temperature", [0.001, 0.1])
def test_nt_xent_of_zeros_is_finite_and_nan_is_not_hidden(temperature):
    z1, z2 = randn(6, 4, dtype=torch.float32), randn(6, 4, seed=1, dtype=torch.float32)
    z1[2] = 0
    z1.requires_grad_()
    loss = nt_xent(z1, z2, temperature=temperature)
    loss.backward()
    assert loss.isfinite()
    assert z1.grad.isfinite().all()
    same = torch.zeros(6, 4)
    assert nt_xent(same, same, temperature=temperature).item() == pytest.approx(math.log(11))
    z2[3, 1] = float("nan")
    assert nt_xent(z1, z2, temperature=temperature).isnan()


def test_info_nce_equals_the_loop():
    q, k, bank = randn(4, 5), randn(4, 5, seed=1), F.normalize(randn(7, 5, seed=2), dim=1)
    for temperature in (0.07, 0.5):
        slow = slow_info_nce(q, k, bank, temperature)
        torch.testing.assert_close(info_nce(q, k, bank, temperature=temperature), slow)


@pytest.mark.parametrize(
    ("rows", "temperature", "value"),
    [(65536, 0.07, 0.0401), (4096, 0.1, 0.1706), (65536, 0.2, 6.0926), (4096, 0.2, 3.3534)],
)
def test_info_nce_of_perfect_positives_and_orthogonal_bank(rows, temperature, value):
    q = torch.tensor([[2.0, 0.0]])
    bank = torch.tensor([[0.0, 1.0]]).expand(rows, 2)
    assert info_nce(q, q, bank, temperature=temperature).item() == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize(("rows", "value"), [(65536, 11.0904), (4096, 8.3180)])
def test_info_nce_where_nothing_is_similar(rows, value):
    q, k = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    bank = torch.tensor([[0.0, 0.0, 1.0]]).expand(rows, 3)
    assert info_nce(q, k, bank, temperature=0.07).item() == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_info_nce_in_chunks_equals_cross_entropy(monkeypatch, chunk):
    monkeypatch.setattr(contrastive, "_CHUNK", chunk)
    q, k = randn(4, 5).requires_grad_(), randn(4, 5, seed=1)
    bank = F.normalize(randn(7, 5, seed=2), dim=1)
    unit = F.normalize(q, dim=1)
    positives = (unit * F.normalize(k, dim=1)).sum(1, keepdim=True)
    logits = torch.cat([positives, unit @ bank.T], 1) / 0.1
    plain = F.cross_entropy(logits, torch.zeros(4, dtype=torch.int64))
    loss = info_nce(q, k, bank, temperature=0.1)
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(torch.autograd.grad(5 * loss, q), torch.autograd.grad(5 * plain, q))
    assert torch.autograd.gradcheck(lambda x: info_nce(x, k, bank, temperature=0.3), (q,))


def test_info_nce_gradient_goes_to_the_queries_only():
    q, k = randn(4, 5).requires_grad_(), randn(4, 5, seed=1).requires_grad_()
    bank = F.normalize(randn(7, 5, seed=2), dim=1).requires_grad_()
    loss = info_nce(q, k, bank, temperature=0.1)
    with torch.no_grad():
        bank.zero_()  # a queue that moves on before the backward pass
    loss.backward()
    assert q.grad.abs().sum() > 0
    assert k.grad is None
    assert bank.grad is None
    assert info_nce(q, k, bank, temperature=0.1) != loss


def test_losses_are_finite_at_a_tiny_temperature():
    q = torch.tensor([[1.0, 0.0]], requires_grad=True)
    against = -q.detach()
    loss = info_nce(q, against, against.expand(9, 2), temperature=0.001)
    assert loss.item() == pytest.approx(math.log(10), abs=1e-4)
    loss.backward()
    assert q.grad.isfinite().all()
    # every other view is far away: exp((cos - 1) / t) underflows
    z = torch.eye(2)
    assert nt_xent(z, -z, temperature=0.001).item() == pytest.approx(1000 + math.log(2), rel=1e-5)


def test_losses_are_float32_under_autocast():
    z1, z2 = randn(8, 16, dtype=torch.float32), randn(8, 16, seed=1, dtype=torch.float32)
    bank = F.normalize(z1, dim=1)
    contrast, look_up = nt_xent(z1, z2, temperature=0.1), info_nce(z1, z2, bank, temperature=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nt_xent(z1, z2, temperature=0.1), contrast)
        assert torch.equal(info_nce(z1, z2, bank, temperature=0.1), look_up)
        for temperature in (0.01, 0.1):
            rough = [z.bfloat16().requires_grad_() for z in (z1, z2)]
            loss = nt_xent(*rough, temperature=temperature)
            loss.backward()
            exact = nt_xent(*(z.detach().float() for z in rough), temperature=temperature)
            assert torch.equal(loss, exact)
            assert rough[0].grad.dtype == torch.bfloat16


def test_contrastive_losses_say_what_is_wrong():
    z = torch.ones(2, 3)
    with pytest.raises(ValueError, match="temperature is 0"):
        nt_xent(z, z, temperature=0)
    with pytest.raises(ValueError, match=r"\[2, 3\] and \[3, 3\]"):
        nt_xent(z, torch.ones(3, 3), temperature=1)
    with pytest.raises(ValueError, match="temperature is -1"):
        info_nce(z, z, z, temperature=-1)
