"""CPC: Representation Learning with Contrastive Predictive Coding (1807.03748)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from unlabeled.data.asterisk import Asterisk
from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.librispeech import LibriSpeech
from unlabeled.data.torchvision_data import ImageNet
from unlabeled.encoders.patches import PatchEncoder, patch_resnet
from unlabeled.encoders.speech import WaveEncoder, wave_encoder
from unlabeled.method import Batch, Method
from unlabeled.nn.context import RowContext
from unlabeled.nn.predictors import StepPredictors
from unlabeled.recipe import PLAIN_1D, Optim, Recipe
from unlabeled.schedule import constant, cosine
from unlabeled.views.augment import Augment
from unlabeled.views.patches import Patches
from unlabeled.views.waves import RandomWindow


@final
class CPC(Method):
    """The rows of patches seen so far tell the latents of the rows below among all others.

    ``z = g_enc(patch)``, ``c_r = g_ar(z_<=r)``, and for each k InfoNCE of ``z_{r+k}^T W_k c_r``
    against all patches of all images (section 3.2). Gradients flow through everything.

    Args:
        encoder: g_enc; its latents lie on a grid.
        context: builds g_ar, which must not see rows below, from the width of z.
        steps: predict 1 to so many rows below, or as many as the grid has.
    """

    encoder: PatchEncoder

    def __init__(
        self,
        encoder: PatchEncoder,
        *,
        context: Callable[[int], nn.Module] = RowContext,
        steps: int = 5,
    ) -> None:
        super().__init__(encoder)
        self.context = context(encoder.dim)
        steps = min(steps, encoder.rows - 1)
        self.future = StepPredictors(encoder.dim, encoder.dim, steps=range(1, steps + 1))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """InfoNCE, the mean over steps, places and images."""
        (patches,) = batch["views"]
        z = self.encoder.maps(patches)
        return {"info_nce": self.future(self.context(z), z).mean()}


@final
class AudioCPC(Method):
    """The past of a waveform tells its latents 1 to K steps later among all others of the batch.

    ``z = g_enc(x)`` by strided convolutions, ``c_t = g_ar(z_<=t)`` by a GRU, which the encoder
    holds since c is what it leaves behind, and for each k InfoNCE of ``z_{t+k}^T W_k c_t`` against
    all latents of all windows (section 3.1).

    Args:
        encoder: g_enc and g_ar.
        steps: K, how many latents ahead.
    """

    encoder: WaveEncoder

    def __init__(self, encoder: WaveEncoder, *, steps: int = 12) -> None:
        super().__init__(encoder)
        self.future = StepPredictors(encoder.dim, encoder.latent_dim, steps=range(1, steps + 1))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """InfoNCE, the mean over steps, times and windows."""
        (windows,) = batch["views"]
        z = self.encoder.latents(windows)
        c = self.encoder.context(z).mT
        return {"info_nce": self.future(c[..., None], z[..., None]).mean()}


def paper() -> Recipe:
    """ResNet-v2-101 on 7 x 7 patches of 64 px, at batch 32 x 16 (section 3.2).

    256 px crops of 300, mirrored, gray; patches moved by up to 4 px; Adam at 2e-4.
    """
    return Recipe(
        method=partial(CPC),
        encoder=partial(patch_resnet, gray=True),
        data=ImageNet(),
        views=Patches(Augment(size=256, scale=(0.728, 0.728), ratio=(1.0, 1.0))),
        optim=Optim(kind=torch.optim.Adam, lr=constant(2e-4), lr_per=None),
        epochs=100,
        batch_size=512,
    )


def small() -> Recipe:
    """Minutes on two CPU cores; shows that it learns and says nothing about ImageNet."""
    return Recipe(
        method=partial(CPC, context=partial(RowContext, hidden=64, blocks=4)),
        encoder=partial(
            patch_resnet,
            widths=(32, 128),
            blocks=(1, 1),
            hidden=None,
            stem_width=32,
            stem_kernel=3,
            stem_pool=False,
            patch=10 / 28,
            stride=6 / 28,
        ),
        data=FashionMnist(),
        views=Patches(Augment(scale=(0.6, 1.0)), patch=10 / 28, stride=6 / 28, inner=0.9),
        optim=Optim(
            kind=torch.optim.AdamW,
            lr=cosine(2e-3, warmup=0.3),
            lr_per=None,
            weight_decay=constant(0.02),
            rules=(PLAIN_1D,),
        ),
        epochs=0.5,
        batch_size=64,
        precision="auto",
    )


def audio_paper() -> Recipe:
    """100 hours of LibriSpeech, windows of 20,480 samples, at batch 8 x 8 (section 3.1).

    Five convolutions of 512 channels, one latent each 10 ms, a GRU of 256; Adam at 2e-4, 300,000
    steps.
    """
    return Recipe(
        method=partial(AudioCPC),
        encoder=partial(wave_encoder),
        data=LibriSpeech(),
        views=RandomWindow(),
        optim=Optim(kind=torch.optim.Adam, lr=constant(2e-4), lr_per=None),
        epochs=850,
        batch_size=64,
    )


def audio_small() -> Recipe:
    """Minutes on two CPU cores: prompts in five voices at 8 kHz, latents of 20 ms."""
    return Recipe(
        method=partial(AudioCPC, steps=6),
        encoder=partial(wave_encoder, width=64, dim=64),
        data=Asterisk(),
        views=RandomWindow(),
        optim=Optim(kind=torch.optim.Adam, lr=cosine(2e-3, warmup=1), lr_per=None),
        epochs=12,
        batch_size=16,
    )
