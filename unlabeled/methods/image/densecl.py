"""DenseCL: Dense Contrastive Learning for Self-Supervised Visual Pre-Training (2011.09157)."""

from __future__ import annotations

from functools import partial
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.stickers import Stickers
from unlabeled.data.torchvision_data import ImageNet
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import small_resnet, torchvision_encoder
from unlabeled.evaluators.correspondence import Correspondence
from unlabeled.evaluators.detection import Detection
from unlabeled.evaluators.segmentation import LinearSegmentation
from unlabeled.losses.contrastive import info_nce
from unlabeled.losses.dense import dense_info_nce, matches
from unlabeled.method import Batch, Method, Sweep
from unlabeled.methods.image.moco_v2 import mlp_head
from unlabeled.nn.ema import Ema
from unlabeled.nn.norms import split_batchnorm
from unlabeled.nn.queue import Queue
from unlabeled.nn.shuffle import share_splits, shuffled
from unlabeled.ops.precision import upcast
from unlabeled.recipe import Optim, Recipe
from unlabeled.schedule import Schedule, constant, cosine, stairs
from unlabeled.views.augment import Augment
from unlabeled.views.image import TwoViews, moco_v2_augment


class DenseHead(nn.Module):
    """[B, width, h, w] -> [B, dim, h w]: 1 x 1 convolutions with biases, ReLU between, no norm."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(width, width, 1), nn.ReLU(inplace=True), nn.Conv2d(width, dim, 1)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """One vector a position."""
        return self.net(maps).flatten(2)


@final
class DenseCL(Method):
    """MoCo v2, and beside it a contrast for each location with the one that looks most alike.

    ``L = (1 - lambda) L_global + lambda L_dense`` (eq. 3). Which location is a positive, the
    backbone's maps say; what is contrasted are the dense head's. Negatives are the mean dense keys
    of past images.

    Args:
        encoder: of the queries; one with maps.
        dim: of queries and keys.
        queue: keys of each of the two queues.
        momentum: of the teacher.
        temperature: of both losses.
        dense: lambda, by the clock.
        batchnorm_splits: parts of the global batch that are normalized apart, as in MoCo.
    """

    encoder: Encoder

    def __init__(
        self,
        encoder: Encoder,
        *,
        dim: int = 128,
        queue: int = 65536,
        momentum: float = 0.999,
        temperature: float = 0.2,
        dense: Schedule = constant(0.5),  # noqa: B008  a pure function
        batchnorm_splits: int = 8,
    ) -> None:
        super().__init__(split_batchnorm(encoder, splits=batchnorm_splits))
        self.projector = mlp_head(encoder.dim, dim)
        self.dense_head = DenseHead(encoder.local_dim, dim)
        self.teacher = Ema(self.student)
        self.queue, self.dense_queue = Queue(queue, dim), Queue(queue, dim)
        self.dim, self.momentum, self.temperature = dim, momentum, temperature
        self.dense, self.batchnorm_splits = dense, batchnorm_splits

    @property
    def student(self) -> nn.ModuleList:
        """The networks whose moving averages make the keys."""
        return nn.ModuleList([self.encoder, self.projector, self.dense_head])

    def before_step(self, sweep: Sweep) -> None:
        """Divide the splits of the batch among the ranks."""
        share_splits(self, splits=self.batchnorm_splits)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Both contrasts, each the mean over its own rows; then the queues take the keys."""
        x_q, x_k = batch["views"]
        maps, q, dense_q = _outputs(self.student, x_q)
        places = maps.shape[2]
        packed = shuffled(self._packed_keys, x_k, seed=self.clock.step)
        k, dense_k, maps_k = packed.split([self.dim, self.dim * places, maps[0].numel()], 1)
        dense_k = dense_k.unflatten(1, (self.dim, places))
        weight = self.dense(self.clock)
        match = matches(maps, maps_k.unflatten(1, (-1, places)))
        terms = {
            "global": (1 - weight) * info_nce(q, k, self.queue.rows, temperature=self.temperature),
            "dense": weight
            * dense_info_nce(
                dense_q, dense_k, match, self.dense_queue.rows, temperature=self.temperature
            ),
        }
        self.queue.push(F.normalize(upcast(k), dim=1))
        self.dense_queue.push(F.normalize(upcast(dense_k).mean(2), dim=1))
        return terms

    def after_step(self) -> None:
        """Move the teacher."""
        self.teacher.update(self.student, momentum=self.momentum)

    def _packed_keys(self, x: Tensor) -> Tensor:
        """Keys, dense keys and maps in one row a sample, so that they are exchanged at once."""
        maps, k, dense_k = _outputs(self.teacher.module, x)
        return torch.cat([part.flatten(1).to(k.dtype) for part in (k, dense_k, maps)], 1)


def _outputs(networks: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Maps [B, C, h w], the global vector [B, dim] and the dense ones [B, dim, h w]."""
    encoder, projector, dense_head = networks.children()
    assert isinstance(encoder, Encoder)
    maps = encoder.maps(x)
    pooled = encoder.pool(maps.flatten(2).mT)
    return maps.flatten(2), projector(pooled), dense_head(maps)


def paper() -> Recipe:
    """ResNet-50, 200 epochs at batch 256 (section 4.1).

    SGD at 0.03 with momentum 0.9 and weight decay 1e-4, cosine; two queues of 65,536, temperature
    0.2, lambda 0.5 from the start.
    """
    return Recipe(
        method=partial(DenseCL),
        encoder=partial(torchvision_encoder, name="resnet50"),
        data=ImageNet(),
        views=TwoViews(moco_v2_augment()),
        optim=Optim(
            kind=partial(torch.optim.SGD, momentum=0.9),
            lr=cosine(0.03),
            weight_decay=constant(1e-4),
        ),
        epochs=200,
        batch_size=256,
        evaluate=(Detection(), LinearSegmentation(), "linear"),
        sync_batchnorm=False,
    )


def small() -> Recipe:
    """Minutes on a CPU core: scenes of emoji of 64 px, maps of 8 x 8, lambda 0 at first."""
    return Recipe(
        method=partial(
            DenseCL,
            queue=4096,
            momentum=0.99,
            temperature=0.2,
            dense=stairs(0.0, 0.5, at=(0.1,)),
            batchnorm_splits=4,
        ),
        encoder=partial(
            small_resnet, widths=(32, 64, 128), stem_kernel=3, stem_stride=2, stem_pool=False
        ),
        data=Stickers(),
        views=TwoViews(
            Augment(
                scale=(0.3, 1.0), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, gray=0.2
            )
        ),
        optim=Optim(kind=torch.optim.Adam, lr=cosine(2e-3, warmup=0.3), lr_per=None),
        epochs=8,
        batch_size=128,
        evaluate=(Correspondence(), LinearSegmentation(), "knn"),
        sync_batchnorm=False,
    )
