import torch

from unlabeled.nn.context import RowContext


def test_a_row_sees_itself_and_the_rows_above_only():
    torch.manual_seed(0)
    net = RowContext(8, hidden=8, blocks=5).double()
    z = torch.randn(1, 8, 6, 4, dtype=torch.float64, requires_grad=True)
    for row in range(6):
        (gradient,) = torch.autograd.grad(net(z)[:, :, row].sum(), z)
        seen = gradient.abs().sum((0, 1, 3)) > 0
        assert seen.tolist() == [other <= row for other in range(6)]


def test_columns_are_all_seen_and_the_shape_stays():
    torch.manual_seed(0)
    net = RowContext(8, hidden=8, blocks=5)
    z = torch.randn(2, 8, 3, 4, requires_grad=True)
    out = net(z)
    assert out.shape == z.shape
    assert (out >= 0).all()
    (gradient,) = torch.autograd.grad(out[:, :, 2, 0].sum(), z)
    assert (gradient.abs().sum((0, 1, 2)) > 0).all()
