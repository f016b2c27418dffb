"""SwAV: Unsupervised Learning of Visual Features by Contrasting Cluster Assignments.

arXiv:2006.09882.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.torchvision_data import ImageNet
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import small_resnet, torchvision_encoder
from unlabeled.losses.clustering import swapped_prediction
from unlabeled.method import Batch, Method, Sweep
from unlabeled.nn.heads import mlp
from unlabeled.nn.optim import Larc
from unlabeled.nn.prototypes import Prototypes
from unlabeled.nn.queue import FeatureQueue
from unlabeled.ops.gather import gather, own_rows
from unlabeled.ops.precision import upcast
from unlabeled.ops.sinkhorn import sinkhorn
from unlabeled.recipe import PLAIN_1D, Optim, Recipe
from unlabeled.schedule import constant, cosine
from unlabeled.views.image import simclr_augment
from unlabeled.views.mild import mild_augment
from unlabeled.views.multicrop import MultiCrop


@final
class SwAV(Method):
    """Each crop predicts the balanced assignment to prototypes of another crop of its image.

    Algorithm 1 (appendix A), with multi-crop (section 3.3) and, for small batches, a queue.

    Args:
        encoder: takes images of every size that the views have.
        hidden: hidden width of the head (section 3.2, as SimCLR's).
        dim: width of the features that are compared with prototypes.
        prototypes: how many.
        temperature: of the predictions.
        epsilon: of the codes; smaller is harder.
        iterations: of Sinkhorn-Knopp.
        freeze_steps: steps during which the prototypes do not learn.
        assigning: how many crops give codes; the first ones of the batch, which are large.
        queue: past features, over all ranks, that are assigned together with the batch; 0 where
            the batch is large enough (section 4.3).
        queue_from: the epoch at which the queue starts to fill; it is used once it is full.

    Values are those of appendix A and the official code.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        hidden: int = 2048,
        dim: int = 128,
        prototypes: int = 3000,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        iterations: int = 3,
        freeze_steps: int = 313,
        assigning: int = 2,
        queue: int = 0,
        queue_from: float = 15.0,
    ) -> None:
        super().__init__(encoder)
        self.projector = mlp(encoder.dim, hidden, dim, hidden_bias=True)
        self.prototypes = Prototypes(dim, prototypes)
        self.queue = FeatureQueue(assigning, queue, dim) if queue else None
        self.temperature, self.epsilon, self.iterations = temperature, epsilon, iterations
        self.freeze_steps, self.assigning, self.queue_from = freeze_steps, assigning, queue_from

    def before_step(self, sweep: Sweep) -> None:
        """Put the prototypes back on the sphere."""
        self.prototypes.normalize()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Swapped prediction of every crop from the codes of the assigning ones."""
        z = self._features(batch["views"])
        scores = [self._scores(crop) for crop in z]
        codes = self._codes(z, scores)
        return {"swap": swapped_prediction(scores, codes, temperature=self.temperature)}

    def _features(self, views: list[Tensor]) -> list[Tensor]:
        """One [B, dim] a crop, unit rows: a forward pass a resolution, then the head at once."""
        groups = [list(group) for _, group in groupby(views, key=lambda view: view.shape[-2:])]
        h = torch.cat([self.encoder(torch.cat(group)) for group in groups])
        return list(F.normalize(upcast(self.projector(h)), dim=1).chunk(len(views)))

    def _scores(self, z: Tensor) -> Tensor:
        """[B, prototypes]. Frozen prototypes get the gradient 0: DDP waits for one that is None."""
        weight = self.prototypes.weight
        learns = float(self.clock.step >= self.freeze_steps)
        held = torch.lerp(weight.detach(), weight, learns)
        return functional_call(self.prototypes, {"weight": held}, (z,))

    @torch.no_grad()
    def _codes(self, z: list[Tensor], scores: list[Tensor]) -> list[Tensor]:
        """Balanced codes of the assigning crops, with past features as company."""
        filled = self.queue is not None and self.queue.full
        codes = []
        for crop in range(self.assigning):
            company = [scores[crop]]
            if self.queue is not None and filled:
                # all ranks hold the whole queue: each brings its share, so that none counts twice
                company.insert(0, self.prototypes(own_rows(self.queue.rows(crop))))
            code = sinkhorn(torch.cat(company), epsilon=self.epsilon, iterations=self.iterations)
            codes.append(code[-len(z[crop]) :])
            if self.queue is not None and self.clock.epoch >= self.queue_from:
                self.queue.push(crop, gather(z[crop]))
        return codes


def paper() -> Recipe:
    """ResNet-50, 800 epochs at batch 4096, 2 x 224 + 6 x 96 crops (table 1; appendix A).

    SGD with LARC on all parameters: 4.8 after ten epochs of warm-up from 0.3, cosine to 0.0048,
    weight decay 1e-6, prototypes frozen for 313 steps, no queue (appendix A, official script).
    At batch 256 the paper has lr 0.6 to 0.0006 without warm-up, ``method.queue=3840`` and
    ``method.freeze_steps=5005`` (section 4.3).
    """
    return Recipe(
        method=partial(SwAV),
        encoder=partial(torchvision_encoder, name="resnet50"),
        data=ImageNet(),
        views=MultiCrop(
            simclr_augment(scale=(0.14, 1.0), interpolation="bilinear"),
            simclr_augment(scale=(0.05, 0.14), interpolation="bilinear"),
        ),
        optim=Optim(
            kind=Larc,
            lr=cosine(4.8, 0.0048, warmup=10, warmup_from=0.3),
            lr_per=4096,
            weight_decay=constant(1e-6),
        ),
        epochs=800,
        batch_size=4096,
    )


def small() -> Recipe:
    """Minutes on two CPU cores; shows that it learns and says nothing about ImageNet."""
    return Recipe(
        method=partial(
            SwAV, hidden=512, prototypes=100, freeze_steps=100, queue=1024, queue_from=1.0
        ),
        encoder=partial(small_resnet),
        data=FashionMnist(),
        views=MultiCrop(
            mild_augment(),
            mild_augment(scale=(0.1, 0.3)),
            small_count=4,
            small_size_ratio=4 / 7,
        ),
        optim=Optim(
            kind=torch.optim.AdamW,
            lr=cosine(2e-3, warmup=0.3),
            weight_decay=constant(0.02),
            rules=(PLAIN_1D,),
        ),
        epochs=2,
        batch_size=256,
        precision="auto",
    )
