"""YADIM: A Framework For Contrastive Self-Supervised Learning And Designing A New Approach.

arXiv:2009.00104.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.torchvision_data import ImageNet
from unlabeled.encoders.amdim import AmdimEncoder, amdim_encoder, amdim_map
from unlabeled.encoders.backbone import ImageEncoder
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import small_resnet
from unlabeled.encoders.patches import PatchEncoder
from unlabeled.losses.apn import Similarity, clipped_nce, cosine, dot, nce, scaled_dot
from unlabeled.method import Batch, Method
from unlabeled.methods.image import cpc, simclr
from unlabeled.methods.image.simclr import nonlinear_head
from unlabeled.nn.apn import CrossScale, FutureRows, LastMap, Projected
from unlabeled.nn.context import RowContext
from unlabeled.recipe import PLAIN_1D, Optim, Recipe
from unlabeled.schedule import constant
from unlabeled.schedule import cosine as cosine_schedule
from unlabeled.views.augment import Augment
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.mild import mild_augment
from unlabeled.views.shared_flip import SharedFlip


@final
class Contrast(Method):
    """Any contrastive method as five parts; the first is the recipe's views.

    ``loss(similarity(anchor, candidates), positive, negative)`` for each comparison that
    ``extract`` makes of the views' representations: the sum over its tasks of the mean over a
    task's comparisons (sections 2 and 3).

    Args:
        encoder: the second part.
        extract: the third: builds, from the encoder, what picks anchors and candidates.
        similarity: the fourth: scores of anchors and candidates.
        loss: the fifth: named terms of scores, positives and negatives.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        extract: Callable[[Any], nn.Module],
        similarity: Similarity,
        loss: Callable[[Tensor, Tensor, Tensor], dict[str, Tensor]],
    ) -> None:
        super().__init__(encoder)
        self.extract = extract(encoder)
        self.similarity, self.criterion = similarity, loss

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Each term of the loss."""
        generator = SampleGenerator(0, self.clock.step, batch["index"])
        totals: defaultdict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
        for task in self.extract(self.encoder, batch["views"], generator):
            for apn in task:
                scores = self.similarity(apn.anchor, apn.candidate)
                for name, term in self.criterion(scores, apn.positive, apn.negative).items():
                    totals[name] = totals[name].to(term) + term / len(task)
        return dict(totals)


# The third part, built from an encoder ------------------------------------------------------------


def last_map(encoder: ImageEncoder, *, dim: int) -> LastMap:
    """YADIM's representations: the last map, of any encoder that has one."""
    return LastMap(encoder.local_dim, dim)


def cross_scale(encoder: AmdimEncoder) -> CrossScale:
    """AMDIM's: the vector and two maps of its own encoder."""
    return CrossScale(encoder.map_dim, encoder.dim)


def future_rows(
    encoder: PatchEncoder, *, context: Callable[[int], nn.Module] = RowContext, steps: int = 5
) -> FutureRows:
    """CPC's: contexts, and latents of patches up to ``steps`` rows below."""
    steps = min(steps, encoder.rows - 1)
    return FutureRows(encoder.dim, context=context, steps=range(1, steps + 1))


def projected(encoder: Encoder, *, head: Callable[[int], nn.Module]) -> Projected:
    """SimCLR's: a projection of the encoder's vector."""
    return Projected(encoder.dim, head=head)


# The recipes --------------------------------------------------------------------------------------


def paper() -> Recipe:
    """AMDIM's encoder at 128 px on ImageNet, only its last map (section 4).

    Width 320, depth 10, maps of 2,560; Adam at 2e-4 with betas (0.8, 0.999), decay 1e-5.
    """
    return Recipe(
        method=partial(
            Contrast,
            extract=partial(last_map, dim=2560),
            similarity=scaled_dot,
            loss=partial(clipped_nce),
        ),
        encoder=partial(amdim_map, width=320, depth=10),
        data=ImageNet(),
        views=SharedFlip(
            Augment(
                size=128,
                scale=(0.3, 1.0),
                ratio=(0.7, 1.4),
                interpolation="bicubic",
                brightness=0.4,
                contrast=0.4,
                saturation=0.4,
                hue=0.2,
                gray=0.25,
            )
        ),
        optim=Optim(
            kind=partial(torch.optim.Adam, betas=(0.8, 0.999), eps=1e-7),
            lr=constant(2e-4),
            lr_per=None,
            weight_decay=constant(1e-5),
        ),
        epochs=300,
        batch_size=480,
    )


def small() -> Recipe:
    """Minutes on two CPU cores; shows that it learns and says nothing about ImageNet."""
    return Recipe(
        method=partial(
            Contrast,
            extract=partial(last_map, dim=256),
            similarity=scaled_dot,
            loss=partial(clipped_nce),
        ),
        encoder=partial(small_resnet),
        data=FashionMnist(),
        views=SharedFlip(mild_augment()),
        optim=Optim(
            kind=torch.optim.AdamW,
            lr=cosine_schedule(2e-3, warmup=0.3),
            weight_decay=constant(0.02),
            rules=(PLAIN_1D,),
        ),
        epochs=2,
        batch_size=256,
        precision="auto",
    )


def small_amdim() -> Recipe:
    """AMDIM in the same parts: its encoder at 32 px, three pairs of scales."""
    return replace(
        small(),
        method=partial(
            Contrast, extract=cross_scale, similarity=scaled_dot, loss=partial(clipped_nce)
        ),
        encoder=partial(amdim_encoder, width=32, depth=1, dim=256),
        views=SharedFlip(mild_augment(size=32)),
    )


def small_cpc() -> Recipe:
    """CPC in the same parts; its loss equals that of ``cpc:small``."""
    context = partial(RowContext, hidden=64, blocks=4)
    return replace(
        cpc.small(),
        method=partial(
            Contrast, extract=partial(future_rows, context=context), similarity=dot, loss=nce
        ),
    )


def small_simclr() -> Recipe:
    """SimCLR in the same parts; its loss equals that of ``simclr:small``."""
    return replace(
        simclr.small(),
        method=partial(
            Contrast,
            extract=partial(projected, head=partial(nonlinear_head, dim=128)),
            similarity=partial(cosine, temperature=0.1),
            loss=nce,
        ),
    )
