import math

import pytest
import torch
import torch.nn.functional as F

from unlabeled.nn import bank as module
from unlabeled.nn.bank import MemoryBank, NceContrast, SoftmaxContrast


def test_starts_uniform_with_rows_of_about_unit_length():
    bank = MemoryBank(4000, 128)
    bound = 1 / math.sqrt(128 / 3)
    assert bound * 0.99 < bank.rows.max() <= bound
    assert -bound <= bank.rows.min() < -bound * 0.99
    assert bank.rows.norm(dim=1).mean().item() == pytest.approx(1, abs=0.01)
    assert list(bank.parameters()) == []
    assert set(bank.state_dict()) == {"rows"}
    with pytest.raises(ValueError, match="bank of 0 rows"):
        MemoryBank(0, 8)


def test_rows_move_half_way_and_keep_unit_length():
    bank = MemoryBank(3, 2)
    bank.rows.copy_(torch.tensor([[1.0, 0.0], [5.0, 5.0], [0.0, 1.0]]))
    bank.update(torch.tensor([0]), torch.tensor([[0.0, 1.0]], requires_grad=True), momentum=0.5)
    torch.testing.assert_close(bank.rows[0], torch.tensor([0.7071, 0.7071]), rtol=0, atol=1e-4)
    assert bank.rows[1:].tolist() == [[5.0, 5.0], [0.0, 1.0]]
    assert not bank.rows.requires_grad


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_momentum_one_keeps_and_zero_replaces(momentum):
    bank = MemoryBank(6, 4)
    bank.rows.copy_(F.normalize(bank.rows, dim=1))
    before, z = bank.rows.clone(), F.normalize(torch.randn(2, 4), dim=1)
    index = torch.tensor([4, 1])
    bank.update(index, z, momentum=momentum)
    torch.testing.assert_close(bank.rows[index], before[index] if momentum else z)
    torch.testing.assert_close(bank.rows[[0, 2, 3, 5]], before[[0, 2, 3, 5]])


def test_scores_are_dot_products_and_the_bank_gets_no_gradient():
    bank = MemoryBank(5, 3)
    z = torch.randn(2, 3, requires_grad=True)
    places = torch.tensor([[4, 0, 0], [2, 2, 1]])
    scores = bank.scores(z, places, temperature=0.5)
    for row in range(2):
        for column in range(3):
            expected = bank.rows[places[row, column]].dot(z[row]) / 0.5
            torch.testing.assert_close(scores[row, column], expected)
    scores.sum().backward()
    assert z.grad.abs().sum() > 0
    before = scores.detach().clone()
    bank.update(torch.tensor([4]), torch.randn(1, 3), momentum=0.0)
    torch.testing.assert_close(scores.detach(), before)  # the graph has a copy of the rows


def test_negatives_are_uniform_and_follow_from_step_and_sample():
    bank = MemoryBank(10, 2)
    index = torch.tensor([7, 3, 9])
    places = bank.positive_and_negatives(index, count=3000, step=5)
    assert places[:, 0].tolist() == [7, 3, 9]
    counts = places[:, 1:].flatten().bincount(minlength=10)
    assert counts.min() > 800  # of 900 each, the own place included
    assert counts.max() < 1000
    alone = bank.positive_and_negatives(index[1:2], count=3000, step=5)
    assert torch.equal(alone[0], places[1])
    other = bank.positive_and_negatives(index, count=3000, step=6)
    assert not torch.equal(other[:, 1:], places[:, 1:])
    assert not torch.equal(places[0, 1:], places[1, 1:])


def test_a_sample_without_a_row_is_refused_with_the_remedy():
    bank = MemoryBank(4, 2)
    with pytest.raises(ValueError, match=r"bank has 4 rows, the data a sample 4: pass method\.sam"):
        bank.positive_and_negatives(torch.tensor([1, 4]), count=2, step=0)
    with pytest.raises(ValueError, match="bank has 4 rows"):
        bank.update(torch.tensor([9]), torch.ones(1, 2), momentum=0.5)


def test_every_rank_gets_the_rows_of_all(monkeypatch):
    """With a gather that brings another rank's rows, both ranks' places move."""
    others = {torch.int64: torch.tensor([3]), torch.float32: torch.tensor([[0.0, 2.0]])}
    monkeypatch.setattr(module, "gather", lambda x: torch.cat([x, others[x.dtype]]))
    bank = MemoryBank(4, 2)
    bank.update(torch.tensor([1]), torch.tensor([[3.0, 0.0]]), momentum=0.0)
    assert bank.rows[[1, 3]].tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_the_constant_of_nce_is_that_of_the_first_batch():
    contrast = NceContrast(1000)
    scores = torch.zeros(2, 5)  # orthogonal features: exp(0) = 1
    contrast(scores)
    assert contrast.partition.item() == 1000
    contrast(scores + 3)
    assert contrast.partition.item() == 1000
    assert set(contrast.state_dict()) == {"partition"}  # a resumed run keeps it
    copy = NceContrast(1000)
    copy.load_state_dict(contrast.state_dict())
    torch.testing.assert_close(copy(scores + 3), contrast(scores + 3))


def test_softmax_contrast_has_no_state():
    contrast = SoftmaxContrast(1000)
    assert not contrast.state_dict()
    assert contrast(torch.zeros(2, 8)).item() == pytest.approx(math.log(8))
