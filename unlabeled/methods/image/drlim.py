"""DrLIM: Dimensionality Reduction by Learning an Invariant Mapping (CVPR 2006)."""

from __future__ import annotations

from functools import partial
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.digits import Digits
from unlabeled.data.neighbors import Neighbors
from unlabeled.data.source import ImageSpec
from unlabeled.data.torchvision_data import Torchvision
from unlabeled.encoders.encoder import Encoder
from unlabeled.evaluators.euclidean_knn import EuclideanKnn
from unlabeled.losses.metric import pair_margin
from unlabeled.method import Batch, Method
from unlabeled.ops.gather import gather
from unlabeled.ops.neighbors import distances, related
from unlabeled.ops.precision import upcast
from unlabeled.recipe import PLAIN_1D, Optim, Recipe
from unlabeled.schedule import constant, cosine
from unlabeled.views.neighbors import NeighborPairs


@final
class DrLIM(Method):
    """Neighbors come together, all others move apart until they are a margin apart.

    Section 2.1: ``L = (1 - Y) 1/2 D^2 + Y 1/2 max(0, m - D)^2`` with D the Euclidean distance of
    two outputs of one network and Y = 0 for neighbors. Nothing is normalized and nothing is held
    back: both branches learn.

    Args:
        encoder: G_W, whose output is the map.
        margin: m.
    """

    def __init__(self, encoder: Encoder, *, margin: float = 1.0) -> None:
        super().__init__(encoder)
        self.margin = margin

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Each image with its partner; and every two images of the batch that are no neighbors."""
        anchors, partners = upcast(self.encoder(torch.cat(batch["views"]))).chunk(2)
        anchors, partners = gather(anchors), gather(partners)
        apart = ~related(gather(batch["index"]), gather(batch["neighbors"]))
        first, second = apart.triu(1).nonzero(as_tuple=True)
        if not len(first):
            raise ValueError("all images of the batch are neighbors: give a larger batch_size")
        value = pair_margin(
            distances(anchors, partners),
            distances(anchors[first], anchors[second]),
            margin=self.margin,
        )
        return {"pair_margin": value}


class Subsample(nn.Module):
    """Averages of 3 x 3 pixels, times a gain and plus a bias that each map learns."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(maps))
        self.bias = nn.Parameter(torch.zeros(maps))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H / 3, W / 3]."""
        return F.avg_pool2d(x, 3) * self.gain[:, None, None] + self.bias[:, None, None]


class MapEncoder(Encoder):
    """Figure 3's network: its output is a point of the map, not a feature for something else."""

    def __init__(self, spec: ImageSpec, *, dim: int) -> None:
        super().__init__()
        self.spec, self.dim = spec, dim
        side = (spec.size - 5) // 3
        self.net = nn.Sequential(
            nn.Conv2d(spec.channels, 15, 6),
            Subsample(15),
            nn.Tanh(),
            nn.Conv2d(15, 30, side),  # as large as what is left, 9 x 9 of 32 px: 30 numbers
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(30, dim),
        )

    def local(self, x: Tensor) -> Tensor:
        """[B, 1, dim]."""
        return self.net(x)[:, None]

    def pool(self, local: Tensor) -> Tensor:
        """[B, dim]."""
        return local.mean(1)


def map_encoder(spec: ImageSpec, *, dim: int = 2) -> MapEncoder:
    """Build G_W for images of at least 8 px (section 3, figure 3).

    Raises:
        ValueError: smaller images.
    """
    if spec.size < 8:
        raise ValueError(f"images are {spec.size} px: this network needs 8 or more")
    return MapEncoder(spec, dim=dim)


def paper() -> Recipe:
    """Section 3.2: 3,000 fours and 3,000 nines of MNIST, and their copies shifted by 3 and 6 px.

    Five nearest neighbors, a map of two dimensions.
    """
    return Recipe(
        method=partial(DrLIM),
        encoder=partial(map_encoder),
        data=Neighbors(
            Torchvision("MNIST"), k=5, border=2, kept=("4 - four", "9 - nine"), per_class=3000
        ),
        views=NeighborPairs((-6, -3, 0, 3, 6)),
        optim=Optim(kind=partial(torch.optim.SGD), lr=constant(0.01), lr_per=None),
        epochs=100,
        batch_size=256,
        evaluate=(EuclideanKnn(),),
    )


def small() -> Recipe:
    """The same map of all ten of scikit-learn's digits: a minute on two CPU cores, offline."""
    return Recipe(
        method=partial(DrLIM),
        encoder=partial(map_encoder),
        data=Neighbors(Digits(image_size=24), k=5, border=4),
        views=NeighborPairs((-6, -3, 0, 3, 6)),
        optim=Optim(
            kind=torch.optim.AdamW,
            lr=cosine(2e-3, warmup=0.3),
            weight_decay=constant(0.02),
            rules=(PLAIN_1D,),
        ),
        epochs=200,
        batch_size=256,
        precision="auto",
        evaluate=(EuclideanKnn(),),
    )
