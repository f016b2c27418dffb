"""FcnSegmentation: classes of pixels by a convolutional head, the encoder trained with it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.source import DataSource
from unlabeled.encoders.encoder import Encoder
from unlabeled.evaluators.evaluator import Measure, device_of, flatten
from unlabeled.evaluators.segmentation import annotated, enlarged, inputs, mean_iou_measure

CHUNK = 100


class FcnHead(nn.Sequential):
    """Two 3 x 3 convolutions with batch norm, then a 1 x 1 to the classes (arXiv:1411.4038)."""

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, classes, 1),
        )


@dataclass(frozen=True, kw_only=True)
class FcnSegmentation:
    """Mean intersection over union after fine-tuning with an FCN head (MoCo, DenseCL).

    A copy of the encoder is trained with the head by AdamW and a cosine, at a tenth of the rate,
    with its batch norms as they are. From random weights the same is training from scratch; there
    is no floor without a network.

    Args:
        images: of train; test is judged whole.
        steps: of training.
        batch: images.
        lr: of the head, at first.
        width: of the head.
        seed: of the head and the order.
        every: epochs between two calls during training, None for never.

    Raises:
        ValueError: a count that is not positive; at judging, data without classes of pixels.
    """

    name: ClassVar[str] = "fcn"
    needs: ClassVar[str] = "encoder"
    protocol: ClassVar[str] = "fcn/adamw-v1"
    images: int = 2000
    steps: int = 400
    batch: int = 32
    lr: float = 2e-3
    width: int = 64
    seed: int = 0
    every: int | None = None

    def __post_init__(self) -> None:
        if min(self.images, self.steps, self.batch, self.width) < 1:
            raise ValueError("images, steps, batch and width: give numbers of at least 1")

    @torch.enable_grad()
    def judge(self, predict: Encoder, data: DataSource) -> list[Measure]:
        """Fine-tune on "train", judge "test"."""
        source = annotated(data)
        place, count = device_of(predict), min(self.images, source.size("train"))
        target = source.annotations("train").maps[:count].long()
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            head = FcnHead(predict.local_dim, self.width, len(source.things) + 1)
            passes = -(-self.steps * self.batch // count)
            order = torch.cat([torch.randperm(count) for _ in range(passes)])
        trunk, head = deepcopy(predict).requires_grad_(True).to(place).eval(), head.to(place)
        groups: list[dict[str, Any]] = [
            {"params": list(trunk.parameters()), "lr": self.lr / 10},
            {"params": list(head.parameters()), "lr": self.lr},
        ]
        optimizer = torch.optim.AdamW(groups)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        for rows in order[: self.steps * self.batch].split(self.batch):
            x = inputs(source, "train", rows.tolist()).to(place)
            logits = enlarged(head(trunk.maps(x)), target.shape[1:])
            loss = F.cross_entropy(logits, target[rows].to(place))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            falling.step()
        truth = source.annotations("test").maps
        found = self._found(trunk, head.eval(), source, truth)
        return [mean_iou_measure(found, truth, train=count)]

    def plain(self, data: DataSource) -> list[Measure]:
        """None."""
        return []

    def __call__(self, predict: Encoder, data: DataSource) -> dict[str, float]:
        """Judge, as named values."""
        return flatten(self.judge(predict, data), self.name)

    @torch.no_grad()
    def _found(self, trunk: Encoder, head: nn.Module, source: Any, truth: Tensor) -> Tensor:
        parts = []
        for rows in torch.arange(len(truth)).split(CHUNK):
            x = inputs(source, "test", rows.tolist()).to(device_of(trunk))
            parts.append(enlarged(head(trunk.maps(x)), truth.shape[1:]).argmax(1).byte().cpu())
        return torch.cat(parts)
