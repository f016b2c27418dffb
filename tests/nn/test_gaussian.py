import torch
from torch import nn

from unlabeled.nn.gaussian import GaussianHead


class Same(nn.Module):
    dim = 4

    def forward(self, h):
        return h


def test_draws_have_the_predicted_mean_and_deviation():
    torch.manual_seed(0)
    head = GaussianHead(Same(), 3)
    h = torch.randn(1, 4)
    mean, deviation = head.parameters_of(h)
    raw = head.linear(h)
    torch.testing.assert_close(mean, raw[:, :3])
    torch.testing.assert_close(deviation, raw[:, 3:].exp().log1p())
    drawn = head(h.expand(20_000, -1), torch.randn(20_000, 3))
    torch.testing.assert_close(drawn.mean(0), mean[0], rtol=0, atol=0.03)
    torch.testing.assert_close(drawn.std(0), deviation[0], rtol=0, atol=0.03)


def test_the_gradient_reaches_the_deviation():
    head = GaussianHead(Same(), 3)
    head(torch.randn(2, 4), torch.randn(2, 3)).sum().backward()
    assert head.linear.weight.grad[3:].abs().sum() > 0


def test_without_noise_the_draw_is_the_mean():
    head = GaussianHead(Same(), 3)
    h = torch.randn(2, 4)
    torch.testing.assert_close(head(h, torch.zeros(2, 3)), head.parameters_of(h)[0])
