"""Photos of one scene with known cameras: each pixel is a sample, a ray with its color."""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from unlabeled.data.images import cache_folder, no_split
from unlabeled.data.source import DataSource
from unlabeled.method import Batch
from unlabeled.ops.rays import pixel_rays

HOLD_OUT = 8
"""Of a scene without a test file every eighth photo is held out, as LLFF's protocol does."""


@dataclass(frozen=True, kw_only=True)
class SceneSpec:
    """What a radiance field must know of its scene.

    Args:
        height: of the photos, in pixels.
        width: of the photos.
        focal: focal length in pixels.
        near: where rays begin to see something, in units of camera depth.
        far: where they end.
        radius: what places are divided by, so that the scene lies in about [-1, 1].
        white: whether the background is white.
        forward: whether all cameras look the same way, so that rays go by normalized device
            coordinates.
    """

    height: int
    width: int
    focal: float
    near: float = 2.0
    far: float = 6.0
    radius: float = 1.0
    white: bool = True
    forward: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.near < self.far:
            raise ValueError(f"near is {self.near}, far {self.far}: give 0 < near < far")
        if not self.radius > 0 or not self.focal > 0:
            raise ValueError(f"radius is {self.radius}, focal {self.focal}: give values above 0")


@dataclass(frozen=True)
class Photos:
    """Photos [V, H, W, 3] in [0, 1] with poses [V, 4, 4], and the depth [V, H, W] if known.

    Depth is in units of camera depth, infinite where nothing is.
    """

    color: Tensor
    pose: Tensor
    depth: Tensor | None = None


class PosedScene(DataSource):
    """A source of rays; concrete ones say what photos a split has.

    A raw batch has the rays [B, 6] as its view and their colors [B, 3] as ``target``.
    """

    modality = "scene"

    @property
    @abstractmethod
    def scene(self) -> SceneSpec:
        """Facts of the scene."""

    @abstractmethod
    def photos(self, split: str) -> Photos:
        """Return the photos of "train" or "test"."""

    def spec(self) -> SceneSpec:
        """Return `scene`."""
        return self.scene

    def size(self, split: str) -> int:
        """Return the number of pixels."""
        return self.photos(split).color[..., 0].numel()

    def split(self, name: str) -> RaySamples:
        """Return "train" or "test"."""
        return _samples(self, name)

    def prepare(self, spec: SceneSpec) -> Callable[[Batch], Tensor]:
        """Return the function that takes rays as they are."""
        return _rays


def _rays(batch: Batch) -> Tensor:
    rays: Tensor = batch["views"][0]
    return rays


class RaySamples:
    """All pixels of photos, photo by photo and row by row."""

    def __init__(self, photos: Photos, focal: float) -> None:
        height, width = photos.color.shape[1:3]
        rays = [pixel_rays(height, width, focal=focal, pose=pose) for pose in photos.pose]
        self.rays = torch.cat(rays)
        self.color = photos.color.flatten(0, 2)

    def __len__(self) -> int:
        return len(self.rays)

    def __getitems__(self, places: list[int]) -> Batch:
        """Read rays and colors."""
        index = torch.as_tensor(places, dtype=torch.int64)
        return Batch(views=[self.rays[index]], index=index, target=self.color[index])


@lru_cache(maxsize=4)
def _samples(data: PosedScene, split: str) -> RaySamples:
    return RaySamples(data.photos(split), data.scene.focal)


@dataclass(frozen=True)
class PosedFolder(PosedScene):
    """A folder in the layout of NeRF's synthetic scenes.

    transforms_train.json and transforms_test.json, or one transforms.json of which every eighth
    photo is held out: ``camera_angle_x`` (radians) and ``frames``, each with ``file_path`` (with
    or without .png) and ``transform_matrix`` (camera to world, OpenGL axes). Photos with alpha are
    put on white.

    Args:
        folder: where it lies.
        near: where rays begin, in the units of the poses.
        far: where they end.
        radius: what places are divided by.
        shrink: divides height and width, 2 for the half resolution of NeRF's small configurations.

    Raises:
        FileNotFoundError: no such folder or photo, at the first use.
        ValueError: a file that is not of this layout, or photos of several sizes; names it.
    """

    folder: str
    near: float = 2.0
    far: float = 6.0
    radius: float = 1.0
    shrink: int = 1

    @property
    def name(self) -> str:
        """The folder's name."""
        return Path(self.folder).name

    @property
    def scene(self) -> SceneSpec:
        """Read off the training photos."""
        photos, angle = _read(self.folder, "train", self.shrink)
        height, width = photos.color.shape[1:3]
        focal = width / 2 / math.tan(angle / 2)
        return SceneSpec(
            height=height,
            width=width,
            focal=focal,
            near=self.near,
            far=self.far,
            radius=self.radius,
        )

    def photos(self, split: str) -> Photos:
        """Read them, once."""
        if split not in ("train", "test"):
            raise no_split(self.name, split, ("train", "test"))
        return _read(self.folder, split, self.shrink)[0]


@dataclass(frozen=True)
class NerfSynthetic(PosedScene):
    """One of NeRF's eight synthetic scenes: 100 training and 200 test photos of 800 px.

    Args:
        scene_name: chair, drums, ficus, hotdog, lego, materials, mic or ship.
        root: the folder nerf_synthetic; our cache folder by default.

    Raises:
        FileNotFoundError: at the first use of photos; the facts of the scene need no files.
    """

    scene_name: str = "lego"
    root: str | None = None

    @property
    def name(self) -> str:
        """``nerf-synthetic-lego``."""
        return f"nerf-synthetic-{self.scene_name}"

    @property
    def scene(self) -> SceneSpec:
        """800 px, the field of view of all eight scenes, depths from 2 to 6."""
        return SceneSpec(height=800, width=800, focal=1111.111, radius=1.5)

    def size(self, split: str) -> int:
        """Return the number of pixels; needs no files."""
        counts = {"train": 100, "test": 200}
        if split not in counts:
            raise no_split(self.name, split, counts)
        return counts[split] * 800**2

    def photos(self, split: str) -> Photos:
        """Read them, once."""
        self.size(split)
        root = Path(self.root) if self.root is not None else cache_folder("nerf_synthetic")
        folder = root / self.scene_name
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder} does not exist: unpack nerf_synthetic.zip of the authors there, or give "
                "a folder of posed photos with --data"
            )
        return _read(str(folder), split, 1)[0]


def is_posed_folder(folder: Path) -> bool:
    """Whether a folder has the cameras of its photos."""
    return any((folder / f"transforms{part}.json").is_file() for part in ("_train", ""))


@lru_cache(maxsize=4)
def _read(folder: str, split: str, shrink: int) -> tuple[Photos, float]:
    root = Path(folder)
    own, whole = root / f"transforms_{split}.json", root / "transforms.json"
    path = own if own.is_file() else whole
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has neither {own.name} nor transforms.json: give a folder in the layout of "
            "NeRF's synthetic scenes (docs/guide.md)"
        )
    try:
        content = json.loads(path.read_text())
        angle = float(content["camera_angle_x"])
        frames = [(str(f["file_path"]), _matrix(f["transform_matrix"])) for f in content["frames"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no list of cameras ({type(error).__name__}: {error}): it needs "
            "camera_angle_x and frames with file_path and transform_matrix"
        ) from error
    if path is whole:
        test = split == "test"
        frames = [each for i, each in enumerate(frames) if (i % HOLD_OUT == 0) == test]
    if not frames:
        raise ValueError(f"{path} has no photo for {split!r}: it needs {HOLD_OUT} or more")
    images = [_photo(root, name, shrink) for name, _ in frames]
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise ValueError(f"{path}: photos of {len(shapes)} sizes, one scene needs one size")
    return Photos(torch.stack(images), torch.stack([pose for _, pose in frames])), angle


def _matrix(values: Any) -> Tensor:
    pose = torch.tensor(values, dtype=torch.float32)
    if pose.shape != (4, 4) or not torch.isfinite(pose).all():
        raise ValueError(f"a pose is {list(pose.shape)}, not 4 x 4 finite numbers")
    return pose


def _photo(root: Path, name: str, shrink: int) -> Tensor:
    path = next(
        (found for ending in ("", ".png", ".jpg") if (found := root / f"{name}{ending}").is_file()),
        None,
    )
    if path is None:
        raise FileNotFoundError(f"{root / name} does not exist: the camera file names it")
    try:
        with Image.open(path) as image:
            size = (image.width // shrink, image.height // shrink)
            pixels = np.asarray(image.convert("RGBA").resize(size, Image.Resampling.BOX))
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}): replace it or drop its frame") from None
    rgba = torch.from_numpy(pixels.copy()).float() / 255
    return rgba[..., :3] * rgba[..., 3:] + (1 - rgba[..., 3:])
