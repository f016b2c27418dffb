"""CMC: Contrastive Multiview Coding (1906.05849)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import permutations
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.emoji import Emoji
from unlabeled.data.torchvision_data import ImageNet
from unlabeled.encoders.image import small_resnet, timm_encoder
from unlabeled.encoders.split import SplitEncoder, color_split_encoder
from unlabeled.method import Batch, Method
from unlabeled.nn.bank import MemoryBank, NceContrast, SoftmaxContrast
from unlabeled.ops.precision import upcast
from unlabeled.recipe import PLAIN_1D, Optim, Recipe
from unlabeled.schedule import constant, cosine, steps
from unlabeled.views.image import Augment, OneView


@final
class CMC(Method):
    """Sensory views of one scene attract each other across encoders that share nothing.

    Section 3: each view of a sample has its own encoder and its own memory bank. The feature of
    view i is scored against the bank of view j, where the sample's own row is the positive and
    drawn rows are the negatives, for all ordered pairs (the full graph of section 3.3; with two
    views the one pair in both directions).

    Args:
        encoder: splits its input into views and has a network for each.
        samples: number of training samples, a row of the banks each; None in a recipe is the
            data's.
        contrast: builds a pair's loss on scores from ``samples``: `NceContrast` (the paper's) or
            `SoftmaxContrast`.
        dim: width of the banks (section 4).
        negatives: K (appendix, ImageNet).
        temperature: of the scores.
        momentum: share of a bank's row that an update keeps.
    """

    encoder: SplitEncoder

    def __init__(
        self,
        encoder: SplitEncoder,
        *,
        samples: int,
        contrast: Callable[[int], nn.Module] = NceContrast,
        dim: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
    ) -> None:
        super().__init__(encoder)
        count = len(encoder.groups)
        self.pairs = list(permutations(range(count), 2))
        self.heads = nn.ModuleList(nn.Linear(part.dim, dim) for part in encoder.parts)  # type: ignore[arg-type]
        self.banks = nn.ModuleList(MemoryBank(samples, dim) for _ in range(count))
        self.contrasts = nn.ModuleList(contrast(samples) for _ in self.pairs)
        self.negatives, self.temperature, self.momentum = negatives, temperature, momentum

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """A term for each ordered pair of views; the banks move after all were scored."""
        (x,), index = batch["views"], batch["index"]
        views = zip(self.encoder.parts, self.heads, self.encoder.split(x), strict=True)
        z = [F.normalize(upcast(head(part(view))), dim=1) for part, head, view in views]
        banks: list[MemoryBank] = list(self.banks)  # type: ignore[arg-type]
        places = banks[0].positive_and_negatives(index, count=self.negatives, step=self.clock.step)
        terms = {}
        for (own, other), contrast in zip(self.pairs, self.contrasts, strict=True):
            scores = banks[other].scores(z[own], places, temperature=self.temperature)
            terms[f"view{own}_to_bank{other}"] = contrast(scores)
        for bank, features in zip(banks, z, strict=True):
            bank.update(index, features, momentum=self.momentum)
        return terms


def paper() -> Recipe:
    """{Y, DbDr}, two ResNet-50 of half width (x1), 240 epochs (section 4.1 and the code).

    SGD at 0.03 with momentum 0.9 and weight decay 1e-4, times 0.1 at epochs 120, 160 and 200,
    batch 128, K = 16,384, temperature 0.07, bank momentum 0.5, NCE.
    """
    return Recipe(
        method=partial(CMC, samples=None),  # type: ignore[arg-type]
        encoder=partial(
            color_split_encoder,
            part=partial(timm_encoder, name="resnet50", width=0.5),
            space="ydbdr",
        ),
        data=ImageNet(),
        views=OneView(Augment(scale=(0.08, 1.0))),
        optim=Optim(
            kind=partial(torch.optim.SGD, momentum=0.9),
            lr=steps(0.03, at=(0.5, 2 / 3, 5 / 6)),
            lr_per=128,
            weight_decay=constant(1e-4),
        ),
        epochs=240,
        batch_size=128,
    )


def small() -> Recipe:
    """Minutes on two CPU cores, on drawings with color: gray clothes have only one view."""
    return Recipe(
        method=partial(
            CMC,
            samples=None,  # type: ignore[arg-type]
            contrast=SoftmaxContrast,
            negatives=512,
            temperature=0.1,
        ),
        encoder=partial(
            color_split_encoder, part=partial(small_resnet, widths=(16, 32, 128)), space="lab"
        ),
        data=Emoji(),
        views=OneView(Augment(scale=(0.3, 1.0))),
        optim=Optim(
            kind=torch.optim.AdamW,
            lr=cosine(2e-3, warmup=0.3),
            weight_decay=constant(0.02),
            rules=(PLAIN_1D,),
        ),
        epochs=40,
        batch_size=128,
        precision="auto",
    )
