import pytest
import torch
import torch.nn.functional as F

from unlabeled.nn.prototypes import Prototypes


def test_scores_are_products_with_the_rows():
    prototypes, z = Prototypes(4, 7), torch.randn(3, 4)
    scores = prototypes(z)
    for i in range(3):
        for k in range(7):
            assert scores[i, k].item() == pytest.approx(
                (z[i] @ prototypes.weight[k]).item(), abs=1e-6
            )
    assert list(dict(prototypes.named_parameters())) == ["weight"]


def test_normalize_keeps_directions_and_the_parameter():
    prototypes = Prototypes(4, 7)
    torch.testing.assert_close(prototypes.weight.norm(dim=1), torch.ones(7))
    weight = prototypes.weight
    with torch.no_grad():
        weight.mul_(torch.arange(1.0, 8.0)[:, None])
    before = weight.detach().clone()
    prototypes.normalize()
    assert prototypes.weight is weight
    torch.testing.assert_close(weight.detach(), F.normalize(before, dim=1))
    prototypes(torch.randn(3, 4)).sum().backward()
    assert weight.grad.abs().sum() > 0


def test_float32_under_autocast():
    prototypes, z = Prototypes(16, 5), torch.randn(3, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(prototypes(z), z @ prototypes.weight.T.float()) or torch.allclose(
            prototypes(z), F.linear(z.double(), prototypes.weight.double()).float(), atol=1e-6
        )
        assert prototypes(z.bfloat16()).dtype == torch.float32


def test_errors():
    with pytest.raises(ValueError, match="0 prototypes x 4"):
        Prototypes(4, 0)
