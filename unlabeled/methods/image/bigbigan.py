"""BigBiGAN: Large Scale Adversarial Representation Learning (1907.02544)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.torchvision_data import ImageNet
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.from_torchvision import torchvision_encoder
from unlabeled.encoders.image import small_resnet
from unlabeled.evaluators.evaluator import device_of
from unlabeled.evaluators.fid import Fid
from unlabeled.evaluators.reconstructions import Reconstructions
from unlabeled.losses.adversarial import hinge, score_gap
from unlabeled.method import Batch, Method, Turn
from unlabeled.nn.biggan import (
    Generator,
    ImageTrunk,
    JointDiscriminator,
    ResidualMLP,
    Scores,
    normed_linear,
)
from unlabeled.nn.ema import Ema
from unlabeled.nn.gaussian import GaussianHead
from unlabeled.recipe import Optim, Recipe, Rule
from unlabeled.schedule import Schedule, constant, linear
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import Augment, OneView
from unlabeled.views.symmetric import Symmetric

NO_RUN = -1
"""A seed that no run's views have."""


@final
class BigBiGAN(Method):
    """An encoder and a generator make pairs that a discriminator cannot tell apart.

    Pairs (x, z^ ~ E(x)) of real images have y = 1, pairs (x^ = G(z), z ~ N(0, 1)) y = -1; s are the
    three scores of a pair. The discriminator minimises ``sum_s h(y s)``, ``h(t) = max(0, 1 - t)``,
    E and G together minimise ``sum_s y s``; two steps of the former, then one of the latter
    (section 2).

    Args:
        encoder: its pooled features are the representation; takes values in [-1, 1].
        generator: makes G from channels and side.
        trunk: makes F from channels.
        shrink: the encoder's images have so many times the generator's side.
        latent_width: of the residual MLPs H and J.
        latent_blocks: of two layers each, in H and J.
        head_width: of the residual MLP between the encoder and the latents.
        head_blocks: of two layers each.
        critic_steps: of the discriminator, in each step.
        average: momentum of G's moving average, which draws the samples.
    """

    encoder: Encoder

    def __init__(
        self,
        encoder: Encoder,
        *,
        generator: Callable[[int, int], Generator] = Generator,
        trunk: Callable[[int], ImageTrunk] = ImageTrunk,
        shrink: int = 2,
        latent_width: int = 2048,
        latent_blocks: int = 4,
        head_width: int = 4096,
        head_blocks: int = 2,
        critic_steps: int = 2,
        average: float = 0.9999,
    ) -> None:
        super().__init__(encoder)
        spec = encoder.spec
        if spec.size % shrink or {*spec.mean, *spec.std} != {0.5}:
            raise ValueError(
                f"the encoder takes {spec.size} px of mean {spec.mean}, deviation {spec.std}: give "
                f"Symmetric views of a side that {shrink} (shrink) divides"
            )
        self.generator = generator(spec.channels, spec.size // shrink)
        self.average = Ema(self.generator)
        latent = self.generator.latent
        body = ResidualMLP(encoder.dim, head_width, blocks=head_blocks, linear=normed_linear)
        self.posterior = GaussianHead(body, latent)
        self.discriminator = JointDiscriminator(
            trunk(spec.channels), latent=latent, width=latent_width, blocks=latent_blocks
        )
        self.critic_steps, self.momentum = critic_steps, average

    def turns(self) -> dict[str, Turn]:
        """The discriminator, then encoder and generator."""
        rivals = (self.encoder, self.posterior, self.generator)
        return {
            "discriminator": Turn(self.critic, (self.discriminator,), repeats=self.critic_steps),
            "encoder_generator": Turn(self.loss, rivals),
        }

    def critic(self, batch: Batch) -> dict[str, Tensor]:
        """The discriminator's: the hinge of each score."""
        with torch.no_grad():
            pairs = self._pairs(batch)
        return {"discriminator": hinge(*self._scores(*pairs))}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The encoder's and generator's: ``y s``."""
        return {"encoder_generator": score_gap(*self._scores(*self._pairs(batch)))}

    def after_step(self) -> None:
        """Move the generator's average, with its norms' statistics."""
        self.average.update(self.generator, momentum=self.momentum)
        self.average.copy_buffers(self.generator)

    def _pairs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x, z^ ~ E(x), x^ = G(z), z."""
        (view,) = batch["views"]
        play = self.clock.step * (self.critic_steps + 1) + self.clock.play
        draws = SampleGenerator(NO_RUN, play, batch["index"])
        z, noise = draws.normal(2, self.generator.latent).to(view.dtype).unbind(1)
        latent = self.posterior(self.encoder(view), noise)
        return self._shrunk(view), latent, self.generator(z), z

    def _scores(self, x: Tensor, latent: Tensor, made: Tensor, z: Tensor) -> list[Scores]:
        """Of the real and of the made pairs, in one pass: no part of it sees the batch."""
        found = self.discriminator(torch.cat([x, made]), torch.cat([latent, z]))
        return [Scores(*part) for part in zip(*(each.chunk(2) for each in found), strict=True)]

    def _shrunk(self, x: Tensor) -> Tensor:
        side = self.generator.size
        return x if x.shape[-1] == side else F.adaptive_avg_pool2d(x, side)

    # What the evaluators see ----------------------------------------------------------------------

    def predictors(self) -> dict[str, Callable[..., Any]]:
        """Embeddings, images from nothing, and what becomes of an image on its way through z."""
        return {"embed": self.encoder, "sample": self.sample, "reconstruct": self.reconstruct}

    @torch.no_grad()
    def sample(self, count: int, draws: torch.Generator) -> Tensor:
        """[count, C, S, S] in [0, 1], of the generator's average."""
        z = torch.randn(count, self.generator.latent, generator=draws)
        return self.average(z.to(device_of(self.average))) / 2 + 0.5

    @torch.no_grad()
    def reconstruct(self, pixels: Tensor) -> Tensor:
        """[B, C, H, W] in [0, 1] -> [B, C, S, S]: G(mu(x)), the same in [0, 1]."""
        x = F.interpolate(
            2 * pixels - 1, size=self.encoder.spec.size, mode="bilinear", antialias=True
        )
        mean, _ = self.posterior.parameters_of(self.encoder(x))
        return self.average(mean) / 2 + 0.5


def adam(lr: Schedule, *rules: Rule) -> Optim:
    """Adam without momentum."""
    kind = partial(torch.optim.Adam, betas=(0.0, 0.999), eps=1e-8)
    return Optim(kind=kind, lr=lr, lr_per=None, rules=rules)


def paper() -> Recipe:
    """ResNet-50 at 256 px, BigGAN at 128 px, batch 2048, 500,000 steps (section 3).

    Adam with beta1 = 0: 2e-4 for the discriminator, 5e-5 for the generator and ten times that for
    the encoder.
    """
    return Recipe(
        method=partial(BigBiGAN),
        encoder=partial(torchvision_encoder, name="resnet50", stem="standard"),
        data=ImageNet(),
        views=Symmetric(OneView(Augment(size=256))),
        optim={
            "discriminator": adam(constant(2e-4)),
            "encoder_generator": adam(
                constant(5e-5),
                Rule(name="encoder.*", lr_scale=10),
                Rule(name="posterior.*", lr_scale=10),
            ),
        },
        epochs=800,
        steps=500_000,
        batch_size=2048,
        evaluate=("knn", "linear", Fid(side=128), Reconstructions(side=128)),
    )


def small() -> Recipe:
    """Minutes on one CPU core: Fashion-MNIST at 28 px for the encoder, at 14 px for the game.

    Half the side, as in the paper; learning rates that fall, for three thousand steps.
    """
    return Recipe(
        method=partial(
            BigBiGAN,
            generator=partial(Generator, widths=(32, 16), latent=20, attention=1),
            trunk=partial(ImageTrunk, widths=(16, 32), attention=2),
            latent_width=128,
            latent_blocks=3,
            head_width=256,
            average=0.99,
        ),
        encoder=partial(small_resnet, widths=(16, 32, 128)),
        data=FashionMnist(),
        views=Symmetric(OneView(Augment(scale=(0.8, 1.0)))),
        optim={
            "discriminator": adam(linear(8e-4, 0.0)),
            "encoder_generator": adam(linear(4e-4, 0.0)),
        },
        epochs=3,
        batch_size=64,
        evaluate=("knn", "linear", Fid(side=14), Reconstructions(side=14)),
    )
