"""Detection: Faster or Mask R-CNN on a pretrained trunk, fine-tuned for a short while."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unlabeled.data.annotated import AnnotatedSource, Annotations
from unlabeled.data.source import DataSource
from unlabeled.encoders.encoder import Encoder
from unlabeled.evaluators.evaluator import Figure, Measure, device_of
from unlabeled.evaluators.segmentation import annotated, inputs
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
    """Box AP (COCO: mean over IoU 0.5 to 0.95) of torchvision's Faster R-CNN on the maps,
    or Mask R-CNN.

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
        masks: find masks too, by Mask R-CNN; the mask of a thing is the pixels of its class in
            its box.
        seed: of the heads and the order.
    """

    images: int = 1000
    steps: int = 250
    batch: int = 16
    lr: float = 1e-3
    width: int = 128
    tests: int = 300
    masks: bool = False
    seed: int = 0
    needs: str = "encoder"
    every: int | None = None

    @property
    def name(self) -> str:
        """``detection``, or ``instances`` with masks."""
        return "instances" if self.masks else "detection"

    @property
    def protocol(self) -> str:
        """``detection/faster-rcnn-v1`` or ``instances/mask-rcnn-v1``."""
        return f"{self.name}/{'mask' if self.masks else 'faster'}-rcnn-v1"

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Fine-tune a copy of the encoder on "train", judge "test"."""
        source = annotated(data)
        detector = self.trained(predict, source)
        truth = source.annotations("test")
        count = min(self.tests, len(truth.maps))
        found = _detected(detector, inputs(source, "test", list(range(count))), device_of(predict))
        require("pycocotools", extra="dense")
        from torchmetrics.detection import MeanAveragePrecision

        kinds: tuple[Any, ...] = ("bbox", "segm") if self.masks else ("bbox",)
        metric = MeanAveragePrecision(backend="pycocotools", iou_type=kinds)
        metric.update(found, [self._target(truth, row) for row in range(count)])
        scores = metric.compute()
        names = {"ap": "map", "ap50": "map_50"}
        if self.masks:
            names = {"ap": "bbox_map", "ap50": "bbox_map_50"}
            names |= {"mask ap": "segm_map", "mask ap50": "segm_map_50"}
        return [
            Measure(
                metric=name, value=100 * float(scores[key]), train=self._count(source), test=count
            )
            for name, key in names.items()
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
                images = inputs(source, "train", chosen).to(place)
                targets = [
                    {name: value.to(place) for name, value in self._target(truth, row).items()}
                    for row in chosen
                ]
                loss = sum(detector(list(images), targets).values())
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(detector.parameters(), 5.0)
                optimizer.step()
                falling.step()
        return detector

    def _target(self, truth: Annotations, row: int) -> dict[str, Tensor]:
        """What torchvision and torchmetrics call a target."""
        there = truth.classes[row] >= 0
        boxes, kinds = truth.boxes[row][there], truth.classes[row][there]
        target = {"boxes": boxes, "labels": kinds + 1}
        if self.masks:
            height, width = truth.maps.shape[1:]
            y, x = torch.arange(height) + 0.5, torch.arange(width) + 0.5
            left, top, right, bottom = boxes.T[:, :, None]
            inside_y, inside_x = (top < y) & (y < bottom), (left < x) & (x < right)
            own = truth.maps[row] == (kinds + 1)[:, None, None]
            target["masks"] = (own & inside_y[:, :, None] & inside_x[:, None]).byte()
        return target

    def _built(self, encoder: Encoder, source: AnnotatedSource) -> Any:
        from torchvision.models.detection import FasterRCNN, MaskRCNN
        from torchvision.models.detection.anchor_utils import AnchorGenerator
        from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
        from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
        from torchvision.ops import MultiScaleRoIAlign

        side, channels = int(source.spec().size), int(source.spec().channels)
        trunk, classes = Trunk(encoder), len(source.things) + 1
        sizes = tuple(side // part for part in (6, 4, 3, 2))
        more: dict[str, Any] = {}
        if self.masks:
            more = {
                "mask_roi_pool": MultiScaleRoIAlign(["0"], output_size=10, sampling_ratio=2),
                "mask_head": MaskRCNNHeads(trunk.out_channels, (self.width, self.width), 1),
                "mask_predictor": MaskRCNNPredictor(self.width, self.width, classes),
            }
        return (MaskRCNN if self.masks else FasterRCNN)(
            trunk,
            **more,
            rpn_anchor_generator=AnchorGenerator((sizes,), ((0.5, 1.0, 2.0),)),
            box_roi_pool=MultiScaleRoIAlign(["0"], output_size=5, sampling_ratio=2),
            box_head=TwoMLPHead(25 * trunk.out_channels, self.width),
            box_predictor=FastRCNNPredictor(self.width, classes),
            min_size=side,
            max_size=side,
            image_mean=[0.0] * channels,  # what comes in is normalized already
            image_std=[1.0] * channels,
            rpn_pre_nms_top_n_train=200,
            rpn_post_nms_top_n_train=100,
            rpn_pre_nms_top_n_test=200,
            rpn_post_nms_top_n_test=50,
            box_batch_size_per_image=64,
            box_detections_per_img=20,
        )

    def _count(self, source: AnnotatedSource) -> int:
        return min(self.images, source.size("train"))


@torch.no_grad()
def _detected(detector: nn.Module, images: Tensor, place: torch.device) -> list[Any]:
    detector.eval()
    found: list[Any] = []
    for part in images.split(50):
        for one in detector(list(part.to(place))):
            one = {name: value.cpu() for name, value in one.items()}
            if "masks" in one:  # probabilities of each pixel
                one["masks"] = one["masks"][:, 0] > 0.5
            found.append(one)
    return found
