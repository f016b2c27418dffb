import pytest
import torch
import torch.nn.functional as F

from unlabeled.ops.similarity import cosines, paired_cosines


def test_equal_cosine_similarity_of_each_pair():
    q, bank, own = torch.randn(3, 4), torch.randn(5, 4), torch.randn(3, 6, 4)
    expected = torch.stack([F.cosine_similarity(row[None], bank) for row in q])
    torch.testing.assert_close(cosines(q, bank), expected)
    expected = torch.stack([F.cosine_similarity(a[None], b) for a, b in zip(q, own, strict=True)])
    torch.testing.assert_close(cosines(q, own), expected)
    torch.testing.assert_close(paired_cosines(q, own[:, 2]), expected[:, 2])


def test_are_float32_under_autocast():
    q, bank = torch.randn(3, 64), torch.randn(5, 64)
    own = bank[None].expand(3, 5, 64)
    plain = cosines(q, bank), cosines(q, own), paired_cosines(q, bank[:3])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = cosines(q, bank), cosines(q, own), paired_cosines(q, bank[:3])
    assert all(torch.equal(a, b) for a, b in zip(plain, under, strict=True))
    assert cosines(q.bfloat16(), bank.bfloat16()).dtype == torch.float32
    assert paired_cosines(q.double(), q.double()).dtype == torch.float64


def test_gradient_goes_to_both():
    q, own = torch.randn(2, 3).double(), torch.randn(2, 4, 3).double()
    inputs = q.requires_grad_(), own.requires_grad_()
    assert torch.autograd.gradcheck(cosines, inputs)
    assert torch.autograd.gradcheck(lambda a, b: paired_cosines(a, b[:, 0]), inputs)


def test_say_what_is_wrong():
    q = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"\[2, 3\], keys \[5, 4\]"):
        cosines(q, torch.ones(5, 4))
    with pytest.raises(ValueError, match=r"keys \[5, 1, 3\]"):
        cosines(q, torch.ones(5, 1, 3))
    with pytest.raises(ValueError, match=r"\[2, 3\] and \[1, 3\]"):
        paired_cosines(q, q[:1])
