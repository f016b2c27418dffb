"""Folders in COCO's format: read, and written."""

from __future__ import annotations

import json
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from unlabeled.data.annotated import AnnotatedSource, Annotations, largest
from unlabeled.data.images import ArraySamples, no_split

FOLDER, PREFIX = "annotations", "instances_"
PARTS = {"train": ("train", "train2017"), "test": ("test", "val", "val2017")}
MOST = 20
"""Things of an image that are kept, the largest."""


@dataclass(frozen=True)
class CocoFolder(AnnotatedSource):
    """``annotations/instances_PART.json`` and images in ``PART/``; train and test (or val).

    Images are brought to squares of ``image_size``, decoded once and kept in memory, so that this
    is for data sets of some ten thousand images. Masks are polygons or run lengths (compressed
    ones by pycocotools); crowds belong to the ground of the boxes and to their class in the maps.

    Args:
        path: the folder.
        image_size: side in px; images are squeezed to it, boxes and masks with them.

    Raises:
        FileNotFoundError: no annotations or images.
        ValueError: annotations that cannot be read, named.
    """

    path: str
    _: KW_ONLY
    image_size: int = 64

    @property
    def name(self) -> str:
        """The folder's name."""
        return Path(self.path).resolve().name

    @property
    def things(self) -> tuple[str, ...]:
        """Names of the categories, by their numbers."""
        return _read(self.path, "train", self.image_size)[2]

    @property
    def classes(self) -> tuple[str, ...]:
        """Those of the things: an image's label is what covers most of it."""
        return self.things

    def split(self, name: str) -> ArraySamples:
        """Return "train", "test" or "all", both of them."""
        if name not in (*PARTS, "all"):
            raise no_split(self.name, name, (*PARTS, "all"))
        found = [
            _read(self.path, part, self.image_size)
            for part in (PARTS if name == "all" else (name,))
        ]
        label = torch.cat([largest(annotations) for _, annotations, _ in found])
        return ArraySamples(torch.cat([images for images, _, _ in found]), label=label)

    def annotations(self, split: str) -> Annotations:
        """Return the truth, in the size of the images."""
        if split not in PARTS:
            raise no_split(self.name, split, PARTS)
        return _read(self.path, split, self.image_size)[1]


def is_coco_folder(path: Path) -> bool:
    """Whether a folder has annotations in COCO's format."""
    return any((path / FOLDER).glob(f"{PREFIX}*.json"))


@lru_cache(maxsize=4)
def _read(folder: str, split: str, side: int) -> tuple[Tensor, Annotations, tuple[str, ...]]:
    root = Path(folder).expanduser()
    part = next(
        (one for one in PARTS[split] if (root / FOLDER / f"{PREFIX}{one}.json").is_file()), None
    )
    if part is None:
        names = " or ".join(f"{PREFIX}{one}.json" for one in PARTS[split])
        raise FileNotFoundError(f"{root / FOLDER} has no {names}")
    path = root / FOLDER / f"{PREFIX}{part}.json"
    try:
        found = json.loads(path.read_text())
        categories = sorted(found["categories"], key=lambda one: one["id"])
        number = {one["id"]: place for place, one in enumerate(categories)}
        owners: dict[int, list[Any]] = {one["id"]: [] for one in found["images"]}
        for thing in found["annotations"]:
            owners[thing["image_id"]].append(thing)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not in COCO's format ({error!r})") from None
    images: list[Tensor] = []
    kept: tuple[list[Tensor], ...] = ([], [], [])
    for one in found["images"]:
        images.append(_squared(_open(root / part / one["file_name"]), side))
        truth = _things(owners[one["id"]], one["height"], one["width"], number, side, path)
        for column, value in zip(kept, truth, strict=True):
            column.append(value)
    annotations = Annotations(*(torch.stack(column) for column in kept))
    return torch.stack(images), annotations, tuple(one["name"] for one in categories)


def _open(path: Path) -> Tensor:
    try:
        image = Image.open(path).convert("RGB")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is in the annotations and not there") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): replace it") from None
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


def _squared(image: Tensor, side: int) -> Tensor:
    """[C, H, W] uint8 to [C, side, side]."""
    if image.shape[1:] == (side, side):
        return image
    size = (side, side)
    new = F.interpolate(image[None].float(), size, mode="bilinear", antialias=True)
    return new[0].round().clamp(0, 255).byte()


def _things(
    things: list[Any], height: int, width: int, number: dict[int, int], side: int, path: Path
) -> tuple[Tensor, Tensor, Tensor]:
    """Map, boxes and classes of one image; smaller things lie above larger ones."""
    label = np.zeros((side, side), np.uint8)
    for thing in sorted(things, key=lambda one: -one.get("area", 0)):
        mask = _mask(thing["segmentation"], height, width, path)
        small = Image.fromarray(mask).resize((side, side), Image.Resampling.NEAREST)
        label[np.asarray(small) > 0] = number[thing["category_id"]] + 1
    boxes, classes = torch.zeros(MOST, 4), torch.full((MOST,), -1)
    scale = torch.tensor([side / width, side / height] * 2)
    alone = sorted(
        (one for one in things if not one.get("iscrowd")), key=lambda one: -one.get("area", 0)
    )
    for place, thing in enumerate(alone[:MOST]):
        left, top, wide, high = thing["bbox"]
        boxes[place] = torch.tensor([left, top, left + wide, top + high]) * scale
        classes[place] = number[thing["category_id"]]
    return torch.from_numpy(label), boxes, classes


def _mask(segmentation: Any, height: int, width: int, path: Path) -> Any:
    """[H, W] uint8 of polygons, run lengths, or compressed run lengths."""
    if isinstance(segmentation, list):
        canvas = Image.new("L", (width, height))
        for polygon in segmentation:
            if len(polygon) >= 6:
                ImageDraw.Draw(canvas).polygon(polygon, fill=1)
        return np.asarray(canvas)
    counts = segmentation["counts"]
    if isinstance(counts, str):
        from unlabeled.extras import require

        decode = require("pycocotools.mask", extra="dense").decode
        return np.asarray(decode({"size": [height, width], "counts": counts.encode()}), np.uint8)
    if sum(counts) != height * width:
        raise ValueError(f"{path}: a mask has {sum(counts)} px, its image {height * width}")
    values = np.arange(len(counts)) % 2
    # run lengths go down the columns
    return np.repeat(values, counts).reshape(width, height).T.astype(np.uint8)


def write_coco(source: AnnotatedSource, folder: str | Path) -> None:
    """Write a source's images and truth; each class of an image's map is one thing's mask.

    A thing's mask is what of its class lies in its box.

    Raises:
        FileExistsError: the folder is there and not empty.
    """
    root = Path(folder)
    if root.is_dir() and any(root.iterdir()):
        raise FileExistsError(f"{root} is not empty: give another folder")
    (root / FOLDER).mkdir(parents=True)
    for part in ("train", "test"):
        (root / part).mkdir()
        samples, truth = source.split(part), source.annotations(part)
        images: list[Any] = []
        things: list[Any] = []
        for place in range(len(truth.maps)):
            pixels = samples.__getitems__([place])["views"][0][0]
            name = f"{place:06d}.png"
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(root / part / name)
            height, width = truth.maps.shape[1:]
            images.append({"id": place, "file_name": name, "height": height, "width": width})
            for box, kind in zip(truth.boxes[place], truth.classes[place].tolist(), strict=True):
                if kind < 0:
                    continue
                left, top, right, bottom = box.tolist()
                mask = np.zeros((height, width), np.uint8)
                area = (slice(int(top), int(bottom)), slice(int(left), int(right)))
                mask[area] = truth.maps[place].numpy()[area] == kind + 1
                things.append(
                    {
                        "id": len(things),
                        "image_id": place,
                        "category_id": kind,
                        "bbox": [left, top, right - left, bottom - top],
                        "area": int(mask.sum()),
                        "iscrowd": 0,
                        "segmentation": {"size": [height, width], "counts": _runs(mask)},
                    }
                )
        names = [{"id": place, "name": name} for place, name in enumerate(source.things)]
        found = {"images": images, "annotations": things, "categories": names}
        (root / FOLDER / f"{PREFIX}{part}.json").write_text(json.dumps(found))


def _runs(mask: Any) -> list[int]:
    """Lengths of runs of 0 and 1 in turn, down the columns, the first of 0."""
    flat = mask.T.ravel()
    change = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], change, [len(flat)]])).tolist()
    return [0, *runs] if flat[0] else list(runs)
