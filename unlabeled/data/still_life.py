"""StillLife: a rendered scene of spheres and boxes with known depth, for view synthesis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.images import no_split
from unlabeled.data.posed import Photos, PosedScene, SceneSpec
from unlabeled.ops.rays import pixel_rays

LIGHT = (0.4, -0.5, 0.8)
SPHERES = (
    ((0.45, 0.30, -0.10), 0.45, (0.85, 0.25, 0.20)),
    ((-0.50, 0.40, -0.25), 0.30, (0.20, 0.55, 0.85)),
    ((-0.10, -0.55, -0.27), 0.28, (0.95, 0.80, 0.25)),
)
BOXES = (
    ((0.0, 0.0, -0.65), (0.95, 0.95, 0.10), (0.75, 0.75, 0.75)),
    ((-0.55, -0.45, -0.25), (0.18, 0.18, 0.30), (0.35, 0.70, 0.35)),
)
HIT = 1e-4


@dataclass(frozen=True, kw_only=True)
class StillLife(PosedScene):
    """Photos of three spheres and two boxes on white, from a hemisphere of radius 4, z up.

    Lambert's shading with Phong's highlight on the spheres, a checker on the table; ray cast with
    four rays a pixel, so color and depth are exact. Test views lie between the training views.

    Args:
        side: height and width in pixels.
        views: of "train"; "test" has 8.
        seed: of the places of the cameras.
    """

    side: int = 40
    views: int = 30
    test_views: int = 8
    seed: int = 0

    @property
    def name(self) -> str:
        """``still-life-40``."""
        return f"still-life-{self.side}"

    @property
    def scene(self) -> SceneSpec:
        """A field of view of 40 degrees, depths from 2.4 to 5.6."""
        focal = self.side / 2 / math.tan(math.radians(20))
        return SceneSpec(
            height=self.side, width=self.side, focal=focal, near=2.4, far=5.6, radius=1.5
        )

    def size(self, split: str) -> int:
        """Return the number of pixels."""
        counts = {"train": self.views, "test": self.test_views}
        if split not in counts:
            raise no_split(self.name, split, counts)
        return counts[split] * self.side**2

    def photos(self, split: str) -> Photos:
        """Render them, once."""
        self.size(split)
        return _photos(self, split)


@lru_cache(maxsize=8)
def _photos(life: StillLife, split: str) -> Photos:
    count = life.views if split == "train" else life.test_views
    generator = torch.Generator().manual_seed(2 * life.seed + (split == "test"))
    turn = torch.rand(count, generator=generator) * 0.8 + torch.arange(count)
    azimuth = turn / count * 2 * math.pi * (1 if split == "train" else 3)
    height = torch.rand(count, generator=generator) * 0.85 + 0.1
    poses = torch.stack([orbit(float(a), float(h)) for a, h in zip(azimuth, height, strict=True)])
    drawn = [draw(life.scene, pose) for pose in poses]
    return Photos(
        torch.stack([color for color, _ in drawn]), poses, torch.stack([z for _, z in drawn])
    )


def orbit(azimuth: float, height: float, *, radius: float = 4.0) -> Tensor:
    """[4, 4]: the pose of a camera on a sphere that looks at the origin, z up.

    Args:
        azimuth: in radians.
        height: the sine of the elevation.
        radius: of the sphere.
    """
    flat = math.sqrt(1 - height**2)
    place = torch.tensor([flat * math.cos(azimuth), flat * math.sin(azimuth), height])
    right = F.normalize(torch.linalg.cross(torch.tensor([0.0, 0.0, 1.0]), place), dim=0)
    pose = torch.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = right, torch.linalg.cross(place, right), place
    pose[:3, 3] = radius * place
    return pose


def draw(scene: SceneSpec, pose: Tensor) -> tuple[Tensor, Tensor]:
    """Color [H, W, 3], the mean of 2 x 2 rays a pixel, and depth [H, W] at the pixel's middle."""
    height, width = 2 * scene.height, 2 * scene.width
    rays = pixel_rays(height, width, focal=2 * scene.focal, pose=pose)
    color = trace(rays)[0].view(scene.height, 2, scene.width, 2, 3).mean((1, 3))
    middle = pixel_rays(scene.height, scene.width, focal=scene.focal, pose=pose)
    return color, trace(middle)[1].view(scene.height, scene.width)


def trace(rays: Tensor) -> tuple[Tensor, Tensor]:
    """Color [N, 3] and depth [N] (infinite where nothing is hit) of rays [N, 6]."""
    origin, direction = rays.split(3, 1)
    color = torch.ones_like(origin)
    nearest = torch.full_like(origin[:, 0], torch.inf)
    for center, radius, albedo in SPHERES:
        k, normal = _sphere(origin, direction, torch.tensor(center), radius)
        shade = _shade(torch.tensor(albedo).expand_as(normal), normal, direction, shine=0.5)
        color, nearest = _in_front(color, nearest, k, shade)
    for number, (center, half, albedo) in enumerate(BOXES):
        k, normal = _box(origin, direction, torch.tensor(center), torch.tensor(half))
        paint = torch.tensor(albedo).expand_as(normal)
        if number == 0:
            paint = _checker(origin + k.nan_to_num(posinf=0.0)[:, None] * direction, paint)
        color, nearest = _in_front(color, nearest, k, _shade(paint, normal, direction, shine=0.0))
    return color, nearest


def _in_front(color: Tensor, nearest: Tensor, k: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    closer = k < nearest
    return torch.where(closer[:, None], own, color), torch.where(closer, k, nearest)


def _sphere(o: Tensor, d: Tensor, center: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    apart = o - center
    a, b = d.square().sum(1), (apart * d).sum(1)
    root = b.square() - a * (apart.square().sum(1) - radius**2)
    k = (-b - root.clamp_min(0).sqrt()) / a
    k = torch.where((root > 0) & (k > HIT), k, torch.inf)
    return k, (apart + k.nan_to_num(posinf=0.0)[:, None] * d) / radius


def _box(o: Tensor, d: Tensor, center: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    slow = torch.where(d.abs() < 1e-9, 1e-9, d)
    first, second = (-half - (o - center)) / slow, (half - (o - center)) / slow
    low, high = torch.minimum(first, second), torch.maximum(first, second)
    enter, axis = low.max(1)
    hit = (high.amin(1) > enter) & (enter > HIT)
    normal = -F.one_hot(axis, 3) * d.sign()
    return torch.where(hit, enter, torch.inf), normal


def _checker(place: Tensor, paint: Tensor) -> Tensor:
    odd = (place[:, :2] / 0.38).floor().sum(1) % 2
    return paint * (0.35 + 0.65 * odd)[:, None]


def _shade(albedo: Tensor, normal: Tensor, direction: Tensor, *, shine: float) -> Tensor:
    light = F.normalize(torch.tensor(LIGHT), dim=0)
    facing = (normal * light).sum(1, keepdim=True)
    view = F.normalize(direction, dim=1)
    mirrored = 2 * facing * normal - light
    glint = (mirrored * -view).sum(1, keepdim=True).clamp_min(0).pow(20)
    return (albedo * (0.35 + 0.65 * facing.clamp_min(0)) + shine * glint * (facing > 0)).clamp(0, 1)
