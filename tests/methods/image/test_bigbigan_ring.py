"""A ring of eight Gaussians in the plane: all are made, and points come back to their own."""

from functools import partial

import pytest
import torch
from torch import nn

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.encoder import Encoder
from unlabeled.method import Clock
from unlabeled.methods.image.bigbigan import BigBiGAN
from unlabeled.nn.biggan import ResidualMLP, spectral_linear

MODES, STEPS, BATCH = 8, 2500, 128
ANGLE = torch.arange(MODES) / MODES * 2 * torch.pi
CENTERS = 0.7 * torch.stack([ANGLE.cos(), ANGLE.sin()], 1)


class Plane(Encoder):
    """Points as images of one pixel and two channels."""

    dim = 64
    spec = ImageSpec(channels=2, size=1, mean=(0.5, 0.5), std=(0.5, 0.5))

    def __init__(self):
        super().__init__()
        self.net = ResidualMLP(2, 64, blocks=2, linear=nn.Linear)

    def local(self, x):
        return self.net(x.flatten(1))[:, None]

    def pool(self, local):
        return local[:, 0]


class Points(nn.Module):
    latent, size = 2, 1

    def __init__(self, channels, size):
        super().__init__()
        self.net = ResidualMLP(2, 64, blocks=2, linear=nn.Linear)
        self.out = nn.Linear(64, channels)

    def forward(self, z):
        return self.out(self.net(z))[:, :, None, None]


class Trunk(nn.Module):
    dim = 64

    def __init__(self, channels):
        super().__init__()
        self.net = ResidualMLP(channels, 64, blocks=2, linear=spectral_linear)

    def forward(self, x):
        return self.net(x.flatten(1) * 4)


def nearest(points):
    return torch.cdist(points.flatten(1), CENTERS).argmin(1)


@pytest.mark.learns
def test_modes_are_found_and_kept():
    torch.manual_seed(0)
    method = BigBiGAN(
        Plane(), generator=Points, trunk=Trunk, shrink=1, latent_width=64, latent_blocks=2,
        head_width=64, head_blocks=1, average=0.99,
    )  # fmt: skip
    adam = partial(torch.optim.Adam, betas=(0.5, 0.999))
    optimizers = {
        name: adam([p for module in turn.modules for p in module.parameters()], lr=1e-3)
        for name, turn in method.turns().items()
    }
    for step in range(STEPS):
        mode = torch.randint(MODES, (BATCH,))
        x = (CENTERS[mode] + 0.02 * torch.randn(BATCH, 2))[:, :, None, None]
        batch = {"views": [x], "index": torch.arange(BATCH)}
        play = 0
        for name, turn in method.turns().items():
            for _ in range(turn.repeats):
                method.clock = Clock(step, STEPS, 100, play)
                optimizers[name].zero_grad()
                sum(turn.loss(batch).values()).backward()
                optimizers[name].step()
                play += 1
        method.after_step()
    method.eval()
    with torch.no_grad():
        made = method.average(torch.randn(2000, 2)).flatten(1)
        good = torch.cdist(made, CENTERS).amin(1) < 0.15
        found = nearest(made[good]).unique()
        mode = torch.arange(800) % MODES
        x = (CENTERS[mode] + 0.02 * torch.randn(800, 2))[:, :, None, None]
        mean, _ = method.posterior.parameters_of(method.encoder(x))
        kept = (nearest(method.average(mean)) == mode).float().mean()
    assert len(found) >= 6
    assert good.float().mean() > 0.8
    assert kept > 0.6
