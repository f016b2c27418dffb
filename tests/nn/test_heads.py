import pytest
import torch
from torch import nn

from unlabeled.nn.heads import mlp


def kinds(head):
    return [type(layer).__name__ for layer in head]


def test_layers_of_the_papers_heads():
    linear, norm, relu = "Linear", "BatchNorm1d", "ReLU"
    moco = mlp(8, 8, 4, hidden_norm=False, hidden_bias=True)
    assert kinds(moco) == [linear, relu, linear]
    assert all(layer.bias is not None for layer in moco if isinstance(layer, nn.Linear))
    byol = mlp(8, 16, 4, hidden_bias=True, last_bias=False)
    assert kinds(byol) == [linear, norm, relu, linear]
    assert byol[0].bias is not None
    assert byol[3].bias is None
    simsiam = mlp(8, 8, 8, 8, last_norm="plain")
    assert kinds(simsiam) == [linear, norm, relu, linear, norm, relu, linear, norm]
    assert simsiam[0].bias is None
    assert simsiam[6].bias is not None
    assert list(simsiam[7].parameters()) == []
    assert len(list(mlp(8, 8, 8, last_norm="affine")[-1].parameters())) == 2
    assert kinds(mlp(8, 3)) == [linear]


def test_widths():
    assert mlp(5, 6, 7, 3)(torch.randn(4, 5)).shape == (4, 3)
    assert [layer.out_features for layer in mlp(5, 6, 7, 3) if isinstance(layer, nn.Linear)] == [
        6,
        7,
        3,
    ]


def test_norm_with_scale_only():
    head = mlp(5, 6, 3, last_bias=False, last_norm="scale")
    assert [name for name, _ in head.named_parameters() if name.startswith("4.")] == ["4.weight"]
    assert set(mlp(5, 6, 3, last_norm="affine")[-1].state_dict()) == set(head[-1].state_dict())
    with torch.no_grad():
        head[-1].weight.fill_(2.0)
    out = head(torch.randn(16, 5))
    torch.testing.assert_close(out.mean(0), torch.zeros(3), atol=1e-6, rtol=0)
    assert ((out.std(0, correction=0) - 2).abs() < 0.02).all()
    out.square().sum().backward()
    torch.optim.SGD(head.parameters(), lr=0.1).step()
    assert torch.equal(head[-1].bias, torch.zeros(3))


def test_errors():
    with pytest.raises(ValueError, match=r"\(8,\)"):
        mlp(8)
    with pytest.raises(ValueError, match="> 0"):
        mlp(8, 0, 3)
    with pytest.raises(ValueError, match="last_norm is 'batch'"):
        mlp(8, 3, last_norm="batch")
