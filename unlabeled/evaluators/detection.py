"""Detection: Faster R-CNN on a pretrained trunk, fine-tuned for a short while."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unlabeled.data.annotated import AnnotatedSource
from unlabeled.data.source import DataSource
from unlabeled.encoders.encoder import Encoder
from unlabeled.evaluators.evaluator import Figure, Measure, device_of
from unlabeled.evaluators.segmentation import _annotated
from unlabeled.extras import require


class Trunk(nn.Module):
    """An encoder's maps, as torchvision's detectors want their backbone."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder, self.out_channels = encoder, encoder.local_dim

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """One level of maps."""
        return {"0": self.encoder.maps(x)}


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Box AP (COCO: mean over IoU 0.5 to 0.95) of torchvision's Faster R-CNN on the maps.

    All weights are trained, by AdamW with a cosine, those of the trunk at a tenth of the rate, with
    its batch norms as they are: a short schedule, which a good start helps. There is no floor
    without a network.

    Args:
        images: of train.
        steps: of training.
        batch: images.
        lr: at first.
        width: of the box head.
        tests: images of test that are judged.
        seed: of the heads and the order.
    """

    images: int = 1000
    steps: int = 250
    batch: int = 16
    lr: float = 1e-3
    width: int = 128
    tests: int = 300
    seed: int = 0
    name: str = "detection"
    needs: str = "encoder"
    every: int | None = None
    protocol: str = "detection/faster-rcnn-v1"

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Fine-tune a copy of the encoder on "train", judge "test"."""
        source = _annotated(data)
        detector = self.trained(predict, source)
        truth = source.annotations("test")
        count = min(self.tests, len(truth.maps))
        found = _detected(detector, _inputs(source, "test", list(range(count))), device_of(predict))
        require("pycocotools", extra="dense")
        from torchmetrics.detection import MeanAveragePrecision

        metric = MeanAveragePrecision(backend="pycocotools")
        known = [
            {"boxes": boxes[kinds >= 0], "labels": kinds[kinds >= 0] + 1}
            for boxes, kinds in zip(truth.boxes[:count], truth.classes[:count], strict=True)
        ]
        metric.update(found, known)
        scores = metric.compute()
        return [
            Measure(
                metric=name, value=100 * float(scores[key]), train=self._count(source), test=count
            )
            for name, key in (("ap", "map"), ("ap50", "map_50"))
        ]

    def plain(self, data: DataSource) -> list[Measure]:
        """None."""
        return []

    def figures(self, predict: Any, data: DataSource) -> list[Figure]:
        """None: a detector takes a minute to train."""
        return []

    @torch.enable_grad()
    def trained(self, encoder: Encoder, source: AnnotatedSource) -> nn.Module:
        """A detector on a copy of the encoder."""
        place, count = device_of(encoder), self._count(source)
        truth = source.annotations("train")
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            detector = self._built(deepcopy(encoder), source).to(place)
            order = torch.stack([torch.randperm(count) for _ in range(-(-self.steps // count) + 1)])
            rows = torch.cat([order.flatten()] * -(-self.steps * self.batch // order.numel()))
            trunk = list(detector.backbone.parameters())
            heads = [value for name, value in detector.named_parameters() if "backbone" not in name]
            optimizer = torch.optim.AdamW(
                [{"params": trunk, "lr": self.lr / 10}, {"params": heads, "lr": self.lr}]
            )
            falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
            detector.train()
            detector.backbone.eval()
            for step in range(self.steps):
                chosen = rows[step * self.batch : (step + 1) * self.batch].tolist()
                images = _inputs(source, "train", chosen).to(place)
                targets = [
                    {
                        "boxes": truth.boxes[row][truth.classes[row] >= 0].to(place),
                        "labels": (truth.classes[row][truth.classes[row] >= 0] + 1).to(place),
                    }
                    for row in chosen
                ]
                loss = sum(detector(list(images), targets).values())
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(detector.parameters(), 5.0)
                optimizer.step()
                falling.step()
        return detector

    def _built(self, encoder: Encoder, source: AnnotatedSource) -> Any:
        from torchvision.models.detection import FasterRCNN
        from torchvision.models.detection.anchor_utils import AnchorGenerator
        from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
        from torchvision.ops import MultiScaleRoIAlign

        side = int(source.spec().size)
        trunk, classes = Trunk(encoder), len(source.things) + 1
        sizes = tuple(side // part for part in (6, 4, 3, 2))
        return FasterRCNN(
            trunk,
            rpn_anchor_generator=AnchorGenerator((sizes,), ((0.5, 1.0, 2.0),)),
            box_roi_pool=MultiScaleRoIAlign(["0"], output_size=5, sampling_ratio=2),
            box_head=TwoMLPHead(25 * trunk.out_channels, self.width),
            box_predictor=FastRCNNPredictor(self.width, classes),
            min_size=side,
            max_size=side,
            image_mean=[0.0] * 3,  # what comes in is normalized already
            image_std=[1.0] * 3,
            rpn_pre_nms_top_n_train=200,
            rpn_post_nms_top_n_train=100,
            rpn_pre_nms_top_n_test=200,
            rpn_post_nms_top_n_test=50,
            box_batch_size_per_image=64,
            box_detections_per_img=20,
        )

    def _count(self, source: AnnotatedSource) -> int:
        return min(self.images, source.size("train"))


def _inputs(source: AnnotatedSource, split: str, places: list[int]) -> Tensor:
    x: Tensor = source.prepare(source.spec())(source.split(split).__getitems__(places))
    return x


@torch.no_grad()
def _detected(detector: nn.Module, images: Tensor, place: torch.device) -> list[Any]:
    detector.eval()
    found: list[Any] = []
    for part in images.split(50):
        for one in detector(list(part.to(place))):
            found.append({name: value.cpu() for name, value in one.items()})
    return found
