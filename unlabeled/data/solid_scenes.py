"""Scenes of solids: what stands where in which color, and what a camera sees of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial, reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.ops.solids import Entry, ball, block, frustum, nearer, ring

Part = Callable[[Tensor, Tensor], Entry]
NOSE = partial(ball, center=(0.0, 0.62, -0.1), radius=0.24)
CLASSES: dict[str, tuple[Part, ...]] = {
    "ball": (partial(ball, center=(0.0, 0.0, 0.0), radius=0.62), NOSE),
    "box": (partial(block, center=(0.0, 0.0, 0.0), half=(0.5, 0.5, 0.5)), NOSE),
    "cylinder": (
        partial(frustum, center=(0.0, 0.0, 0.0), bottom=0.5, top=0.5, half=0.6),
        NOSE,
    ),
    "cone": (
        partial(frustum, center=(0.0, 0.0, 0.0), bottom=0.62, top=0.04, half=0.65),
        NOSE,
    ),
    "ring": (partial(ring, center=(0.0, 0.0, 0.0), axis=2, radius=0.52, tube=0.2), NOSE),
    "mug": (
        partial(frustum, center=(0.0, -0.2, 0.0), bottom=0.42, top=0.5, half=0.55),
        partial(ring, center=(0.0, 0.28, 0.0), axis=0, radius=0.32, tube=0.1),
    ),
    "table": (
        partial(block, center=(0.0, 0.0, 0.5), half=(0.7, 0.6, 0.1)),
        partial(frustum, center=(0.0, 0.0, -0.15), bottom=0.35, top=0.12, half=0.55),
        partial(ball, center=(0.0, 0.45, 0.7), radius=0.2),
    ),
    "car": (
        partial(block, center=(0.0, 0.0, -0.2), half=(0.42, 0.75, 0.25)),
        partial(block, center=(0.0, -0.25, 0.2), half=(0.36, 0.4, 0.2)),
    ),
}
"""Parts of each class in a cube of side 2, z up, y to the front; left and right are alike."""
POSES = ("top", "front", "right", "back", "left")
MIRRORED_POSE = (0, 1, 4, 3, 2)
"""The pose in a mirrored image."""
FIXED_VIEW = (math.radians(55), math.radians(35))
FIXED_LIGHT = (0.5, 0.6, 0.9)
STEEPEST, FLATTEST = 0.0, math.radians(80)
FIELD_OF_VIEW = math.radians(44)
DISTANCE, SPREAD, CROWDED = 2.8, 0.95, 2.0
WARP, COLOR_JITTER, WAVES = 0.1, 0.4, 8


class Scenes(NamedTuple):
    """B scenes of P things, and a camera that looks at the origin; z up.

    ``wave``, ``phase`` and ``amplitude`` make textures of the things and, last, of the wall:
    ``c0 + sum_m A_m sin(w_m . X + phi_m)`` with X in the thing's own frame.
    """

    kind: Tensor
    """[B, P] int64, of `CLASSES`."""
    shape: Tensor
    """[B, P, 3, 3]: own frame to the world."""
    center: Tensor
    """[B, P, 3]."""
    yaw: Tensor
    """[B, P], by which a thing is turned about z, in radians."""
    view: Tensor
    """[B, 2]: polar angle and azimuth of the camera, 0 where it looks at the front."""
    distance: float
    light: Tensor
    """[B, 3], unit, towards it."""
    color: Tensor
    """[B, P + 1, 3]."""
    wave: Tensor
    """[B, P + 1, 3, M]."""
    phase: Tensor
    """[B, P + 1, M]."""
    amplitude: Tensor
    """[B, P + 1, M, 3]."""


def draw_pool(objects: int, *, seed: int) -> Tensor:
    """[classes, objects, 3, 3]: warps of the solids, which keep left and right alike."""
    generator = torch.Generator().manual_seed(seed)
    noise = WARP * torch.randn(len(CLASSES), objects, 3, 3, generator=generator).clamp(-2, 2)
    noise[..., 0, 1:] = noise[..., 1:, 0] = 0
    return torch.eye(3) + noise


def draw(count: int, *, factors: str, things: int, pool: Tensor, seed: int) -> Scenes:
    """Draw scenes; a pure function of its arguments.

    All random numbers are drawn whatever the factors, so that scenes of two combinations differ
    only in these.

    Args:
        count: scenes.
        factors: of texture, color, viewpoint, light: "0" fixed, "1" random.
        things: in each.
        pool: of `draw_pool`.
        seed: of the generator.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    textured, colored, moved, lit = (factor == "1" for factor in factors)
    kind = torch.randint(len(CLASSES), (count, things), generator=generator)
    warp = pool[kind, torch.randint(pool.shape[1], (count, things), generator=generator)]
    any_view = torch.cat([uniform(STEEPEST, FLATTEST, 1), uniform(-math.pi, math.pi, 1)], 1)
    view = any_view if moved else torch.tensor(FIXED_VIEW).expand(count, 2)
    yaw = uniform(-math.pi, math.pi, things)
    yaw = yaw if moved and things > 1 else torch.zeros_like(yaw)
    grid = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]])[:things]
    spot = SPREAD * grid + uniform(-0.2, 0.2, things, 2)
    spot = spot if things > 1 else torch.zeros_like(spot)
    center = torch.cat([spot, torch.zeros_like(spot[..., :1])], 2)
    toward = F.normalize(torch.randn(count, 3, generator=generator), dim=1)
    toward[:, 2] = toward[:, 2].abs()
    light = toward if lit else F.normalize(torch.tensor(FIXED_LIGHT), dim=0).expand(count, 3)
    any_color, jitter = uniform(0.1, 0.9, things + 1, 3), uniform(-0.5, 0.5, things + 1, 3)
    own = torch.cat([_hues()[kind], torch.full((count, 1, 3), 0.5)], 1)
    color = any_color if colored else (own + COLOR_JITTER * jitter).clamp(0.05, 0.95)
    way = F.normalize(torch.randn(count, things + 1, 3, WAVES, generator=generator), dim=2)
    size = 2.0 * 6.0 ** uniform(0, 1, things + 1, 1, WAVES)
    strength = 0.1 if textured else 0.0
    return Scenes(
        kind,
        turn_z(yaw) @ warp,
        center,
        yaw,
        view,
        DISTANCE * (1.0 if things == 1 else CROWDED),
        light,
        color,
        way * size,
        uniform(0, 2 * math.pi, things + 1, WAVES),
        strength * torch.randn(count, things + 1, WAVES, 3, generator=generator),
    )


def turn_z(angle: Tensor) -> Tensor:
    """[..., 3, 3]: turns about z, from x to y."""
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    rows = [cos, -sin, zero, sin, cos, zero, zero, zero, torch.ones_like(angle)]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def _hues() -> Tensor:
    """[classes, 3]: colors around the wheel."""
    turn = torch.arange(len(CLASSES)) / len(CLASSES)
    return 0.5 + 0.35 * (2 * math.pi * (turn[:, None] + torch.tensor([0, 1 / 3, 2 / 3]))).cos()


def pose_class(view: Tensor, yaw: Tensor) -> Tensor:
    """[B] int64, of `POSES`, of polar angles and azimuths [B, 2] and the thing's own turn [B].

    Below a polar angle of pi / 8 it is the top, else the quadrant of the azimuth, whose borders
    lie at +-pi / 4 and +-3 pi / 4.
    """
    # a camera at azimuth a stands at (sin a, cos a): a thing turned by yaw sees it at a + yaw
    azimuth = view[:, 1] + yaw
    quarter = (azimuth / (math.pi / 2) + 0.5).floor().long() % 4
    return torch.where(view[:, 0] < math.pi / 8, 0, quarter + 1)


# Rendering ---------------------------------------------------------------------------------------


def camera(view: Tensor, distance: float) -> tuple[Tensor, Tensor]:
    """Places [B, 3] and axes [B, 3, 3], whose rows are right, down and forward."""
    polar, azimuth = view.unbind(1)
    zero = torch.zeros_like(polar)
    toward = torch.stack([polar.sin() * azimuth.sin(), polar.sin() * azimuth.cos(), polar.cos()], 1)
    right = torch.stack([-azimuth.cos(), azimuth.sin(), zero], 1)
    down = torch.linalg.cross(-toward, right, dim=1)
    return distance * toward, torch.stack([right, down, -toward], 1)


def focal_length(side: int) -> float:
    """In px."""
    return side / 2 / math.tan(FIELD_OF_VIEW / 2)


def pixel_directions(side: int, *, fine: int = 1) -> Tensor:
    """[side^2 fine^2, 3] with z = 1: of the middles of pixels, each divided into fine x fine."""
    across = ((torch.arange(side * fine) + 0.5) / fine - side / 2) / focal_length(side)
    v, u = torch.meshgrid(across, across, indexing="ij")
    return torch.stack([u, v, torch.ones_like(u)], -1).flatten(0, 1)


def look(scenes: Scenes, rays: Tensor) -> tuple[Entry, Tensor, Tensor]:
    """What camera rays [R, 3] meet first: entries [B, R], the thing (-1 none), its own place.

    Normals are the world's.
    """
    place, axes = camera(scenes.view, scenes.distance)
    direction = rays @ axes
    shape = direction.shape[:2]
    first = Entry(torch.full(shape, torch.inf), torch.zeros(*shape, 3))
    thing, local = torch.full(shape, -1), torch.zeros(*shape, 3)
    for number in range(scenes.kind.shape[1]):
        inverse = torch.linalg.inv(scenes.shape[:, number])
        start = (inverse @ (place - scenes.center[:, number])[..., None]).mT  # [B, 1, 3]
        along = direction @ inverse.mT
        entry = Entry(torch.full(shape, torch.inf), torch.zeros(*shape, 3))
        for kind, parts in enumerate(CLASSES.values()):
            rows = (scenes.kind[:, number] == kind).nonzero().flatten()
            if len(rows):
                met = reduce(nearer, (part(start[rows], along[rows]) for part in parts))
                entry.depth[rows], entry.normal[rows] = met
        normal = F.normalize(entry.normal @ inverse, dim=-1)
        closer = entry.depth < first.depth
        own = start + entry.depth.nan_to_num(posinf=0.0)[..., None] * along
        local = torch.where(closer[..., None], own, local)
        thing = torch.where(closer, number, thing)
        first = nearer(first, Entry(entry.depth, normal))
    return first, thing, local


def render(scenes: Scenes, *, side: int) -> dict[str, Tensor]:
    """Images, four rays a pixel, and the truth at the middles of pixels.

    ``image`` [B, 3, S, S] uint8; ``owner`` [B, S, S] int8, the number of the thing or -1;
    ``depth`` [B, S, S], 0 where nothing is; ``pose`` [B], of the first thing.
    """
    rays = pixel_directions(side, fine=2)
    entry, thing, local = look(scenes, rays)
    color = torch.zeros_like(local)
    wall = scenes.kind.shape[1]
    for number in range(wall + 1):
        # the wall is painted on the picture itself
        own = local if number < wall else rays.expand_as(local) * 2.0
        angle = own @ scenes.wave[:, number] + scenes.phase[:, number, None]
        paint = scenes.color[:, number, None] + angle.sin() @ scenes.amplitude[:, number]
        color = torch.where((thing == (number if number < wall else -1))[..., None], paint, color)
    facing = (entry.normal @ scenes.light[..., None]).clamp_min(0)
    shade = torch.where((thing >= 0)[..., None], 0.35 + 0.65 * facing, torch.ones_like(facing))
    mean = (color * shade).clamp(0, 1).view(-1, side, 2, side, 2, 3).mean((2, 4))
    middle, owner, _ = look(scenes, pixel_directions(side))
    return {
        "image": (255 * mean).round().byte().permute(0, 3, 1, 2),
        "owner": owner.view(-1, side, side).to(torch.int8),
        "depth": middle.depth.nan_to_num(posinf=0.0).view(-1, side, side),
        "pose": pose_class(scenes.view, scenes.yaw[:, 0]),
    }
