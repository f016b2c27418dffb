"""SeLa: Self-Labeling via Simultaneous Clustering and Representation Learning (1911.05371)."""

from __future__ import annotations

from functools import partial
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.labeled_part import LabeledPart
from unlabeled.data.torchvision_data import ImageNet
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import small_resnet, torchvision_encoder
from unlabeled.evaluators.clustering import Clustering
from unlabeled.method import Batch, Method, Sweep
from unlabeled.ops.assignment import balanced_labels
from unlabeled.ops.precision import upcast
from unlabeled.recipe import PLAIN_1D, Optim, Recipe
from unlabeled.schedule import constant, cosine, steps
from unlabeled.views.augment import Augment
from unlabeled.views.image import OneView
from unlabeled.views.mild import mild_augment


@final
class SeLa(Method):
    """Classify images by labels that the network gives itself, K clusters of equal size.

    A. ``L = mean_h mean_i CE(head_h(Phi(T(x_i))), y_h(i))`` (eq. 6).
    B. At scheduled moments, for each head, the labels of the whole data set are assigned anew:
       ``min_Q <Q, -log P>`` over Q with equal rows and equal columns, by P^lambda scaled on both
       sides (section 3.2, eq. 5 and 7), then ``y(i) = argmax_k Q_ik``.

    Args:
        encoder: Phi.
        samples: of the data set; None takes the data's.
        clusters: K.
        heads: H.
        power: lambda.
        updates: how often labels are assigned anew in a run.
        spacing: update i of n is at ``(i / (n - 1))^spacing`` of the run: 2 is dense at the start.
        tolerance: of the scaling's convergence.
    """

    labels: Tensor

    def __init__(
        self,
        encoder: Encoder,
        *,
        samples: int | None,
        clusters: int = 3000,
        heads: int = 10,
        power: float = 25.0,
        updates: int = 100,
        spacing: float = 2.0,
        tolerance: float = 0.1,
    ) -> None:
        super().__init__(encoder)
        if samples is None:
            raise ValueError("samples is None: a recipe fills it in from its data")
        self.heads = nn.ModuleList(nn.Linear(encoder.dim, clusters) for _ in range(heads))
        first = torch.arange(samples) % clusters  # exactly balanced, in another order a head
        labels = torch.stack([first[torch.randperm(samples)] for _ in range(heads)])
        self.register_buffer("labels", labels)
        self.power, self.tolerance = power, tolerance
        self.updates, self.spacing = updates, spacing

    def due(self) -> bool:
        """Whether labels are assigned anew before this step."""
        last = max(1, self.updates - 1)
        moments = (
            round(self.clock.steps * (i / last) ** self.spacing) for i in range(self.updates)
        )
        return self.clock.step in moments

    def before_step(self, sweep: Sweep) -> None:
        """Assign all labels anew where it is time to."""
        if not self.due():
            return
        features = upcast(sweep(self.encoder))
        for number, head in enumerate(self.heads):
            probability = head(features).softmax(1)
            self.labels[number] = balanced_labels(
                probability, power=self.power, tolerance=self.tolerance
            )

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy with the labels of each head, the mean over heads."""
        (x,) = batch["views"]
        features = self.encoder(x)
        target = self.labels[:, batch["index"]]
        losses = [
            F.cross_entropy(upcast(head(features)), own)
            for head, own in zip(self.heads, target, strict=True)
        ]
        return {"cross_entropy": torch.stack(losses).mean()}


def paper_augment() -> Augment:
    """The strongest of the official code's views (augs=3)."""
    return Augment(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4, jitter=1.0, gray=0.2)


def paper() -> Recipe:
    """ResNet-50, 10 heads of 3,000 clusters, 280 epochs at batch 256 (section 4.1, appendix).

    SGD with momentum 0.9 at 0.05, times 0.1 at 150, 200 and 250 of 280 epochs, weight decay 1e-5;
    100 updates of the labels, dense at the start, lambda 25.
    """
    return Recipe(
        method=partial(SeLa, samples=None),
        encoder=partial(torchvision_encoder, name="resnet50"),
        data=ImageNet(),
        views=OneView(paper_augment()),
        optim=Optim(
            kind=partial(torch.optim.SGD, momentum=0.9),
            lr=steps(0.05, at=(150 / 280, 200 / 280, 250 / 280)),
            lr_per=None,
            weight_decay=constant(1e-5),
        ),
        epochs=280,
        batch_size=256,
        evaluate=("knn", "linear", Clustering(clusters=1000)),
    )


def small() -> Recipe:
    """Minutes on two CPU cores: four heads of 64 clusters on a third of Fashion-MNIST."""
    return Recipe(
        method=partial(SeLa, samples=None, clusters=64, heads=4, updates=6, spacing=1.0),
        encoder=partial(small_resnet),
        data=LabeledPart(FashionMnist(), share=1 / 3),
        views=OneView(mild_augment()),
        optim=Optim(
            kind=torch.optim.AdamW,
            lr=cosine(2e-3, warmup=0.5),
            weight_decay=constant(0.02),
            rules=(PLAIN_1D,),
        ),
        epochs=6,
        batch_size=256,
        precision="auto",
        evaluate=("knn", "linear", Clustering()),
    )
