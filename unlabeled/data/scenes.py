"""Rooms seen by a moving camera, ray cast, with exact depth, flow and occlusion."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from unlabeled.ops.cast import Boxes, Hits, Texture, cast, paint, turn_y

NORMALS = ((0.0, 1.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (-1.0, 0.0, 0.0))
"""Ground, ceiling, back wall, right and left wall, from inside outwards."""
PLANES, STILL, MOVING, WAVES = 5, 6, 2, 24
FIELD_OF_VIEW = 70.0
EDGE = 1e-3


class Rooms(NamedTuple):
    """B rooms of five planes, six boxes that stand still and two that move, over T frames.

    The camera looks along +z with x right and y down; units are meters, time is in frames.
    """

    offset: Tensor
    """[B, 5], of the planes."""
    boxes: Boxes
    """[B, 8], at frame 0."""
    velocity: Tensor
    """[B, 8, 3], m a frame."""
    spin: Tensor
    """[B, 8], radians a frame."""
    texture: Texture
    """[B, 13]."""
    pose: Tensor
    """[B, T, 4, 4], camera to world."""


class Truth(NamedTuple):
    """Flow [B, 2, H, W] in px (right, down), what it hides [B, H, W] bool, depth [B, H, W] in m."""

    flow: Tensor
    occluded: Tensor
    depth: Tensor


def draw_rooms(count: int, *, frames: int, seed: int) -> Rooms:
    """Draw rooms; a pure function of its arguments."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    back, right, left = uniform(9, 14), uniform(3, 5), uniform(3, 5)
    flat = torch.ones(count)
    offset = torch.stack([flat, 3 * flat, back, right, left], 1)
    things = STILL + MOVING
    half = torch.stack(
        [uniform(0.3, 0.8, things), uniform(0.3, 1.1, things), uniform(0.3, 0.8, things)], 2
    )
    wide = uniform(0, 1, things) * (right + left - 1.8)[:, None]
    x = wide - left[:, None] + 0.9
    z = 2.5 + uniform(0, 1, things) * (back - 3.7)[:, None]
    boxes = Boxes(torch.stack([x, 1 - half[..., 1], z], 2), half, uniform(-0.8, 0.8, things))
    moves = torch.zeros(things)
    moves[STILL:] = 1
    sideways, along = uniform(-0.35, 0.35, things), uniform(-0.2, 0.2, things)
    velocity = torch.stack([sideways, torch.zeros_like(sideways), along], 2) * moves[:, None]
    spin = uniform(-0.1, 0.1, things) * moves
    return Rooms(
        offset, boxes, velocity, spin, _textures(count, generator), _path(count, frames, generator)
    )


def _textures(count: int, generator: torch.Generator) -> Texture:
    things = PLANES + STILL + MOVING
    shape = (count, things, WAVES)
    way = torch.nn.functional.normalize(torch.randn(*shape, 3, generator=generator), dim=-1)
    size = 0.8 * (7 / 0.8) ** torch.rand(*shape, generator=generator)
    size[:, PLANES:] *= 1.5
    gray = 0.07 * torch.randn(*shape, 1, generator=generator)
    return Texture(
        0.25 + 0.5 * torch.rand(count, things, 3, generator=generator),
        way * size[..., None],
        2 * math.pi * torch.rand(*shape, generator=generator),
        gray + 0.03 * torch.randn(*shape, 3, generator=generator),
    )


def _path(count: int, frames: int, generator: torch.Generator) -> Tensor:
    """[B, T, 4, 4]: forward, a little to the sides, turning slowly."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    rate = uniform(-0.04, 0.04, 1) + uniform(-0.01, 0.01, frames)
    rate[:, :1] = uniform(-0.15, 0.15, 1)
    yaw, pitch = rate.cumsum(1), uniform(-0.006, 0.006, frames)
    step = torch.stack(
        [
            uniform(-0.03, 0.03, frames),
            uniform(-0.02, 0.02, frames),
            0.25 * uniform(0.7, 1.3, frames),
        ],
        2,
    )
    step[:, 0] = 0
    pose = torch.eye(4).repeat(count, frames, 1, 1)
    axes = turn_y(_turned_x(torch.eye(3), pitch[..., None]), yaw[..., None])
    pose[..., :3, :3] = axes.mT
    pose[..., :3, 3] = step.cumsum(1)
    return pose


def _turned_x(point: Tensor, angle: Tensor) -> Tensor:
    x, y, z = point.expand(*angle.shape[:-1], 3, 3).unbind(-1)
    return torch.stack(
        [x, angle.cos() * y - angle.sin() * z, angle.sin() * y + angle.cos() * z], -1
    )


# Rendering ---------------------------------------------------------------------------------------


def focal_length(width: int) -> float:
    """In px, of a field of view of 70 degrees."""
    return width / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2)


def directions(height: int, width: int, *, fine: int = 1) -> Tensor:
    """[H W, 3] with z = 1, of the middles of pixels, each divided into fine x fine."""
    focal = focal_length(width)

    def places(count: int) -> Tensor:
        return (torch.arange(count * fine) + 0.5) / fine - 0.5 - (count - 1) / 2

    v, u = torch.meshgrid(places(height) / focal, places(width) / focal, indexing="ij")
    return torch.stack([u, v, torch.ones_like(u)], -1).flatten(0, 1)


def look(rooms: Rooms, time: int, rays: Tensor, pose: Tensor) -> Hits:
    """Cast camera rays [N, 3] or [B, N, 3] from poses [B, 4, 4] through rooms as at a frame."""
    direction = rays.expand(len(pose), -1, 3) @ pose[:, :3, :3].mT
    origin = pose[:, None, :3, 3].expand_as(direction)
    normal = torch.tensor(NORMALS)
    return cast(origin, direction, normal=normal, offset=rooms.offset, boxes=_at(rooms, time))


def _at(rooms: Rooms, time: int) -> Boxes:
    center, half, yaw = rooms.boxes
    return Boxes(center + time * rooms.velocity, half, yaw + time * rooms.spin)


def photos(rooms: Rooms, time: int, *, height: int, width: int) -> Tensor:
    """[B, 3, H, W] uint8: what the camera sees at a frame, four rays a pixel."""
    rays = directions(height, width, fine=2)
    color = paint(look(rooms, time, rays, rooms.pose[:, time]), rooms.texture)
    mean = color.view(-1, height, 2, width, 2, 3).mean((2, 4))
    return (255 * mean).round().byte().permute(0, 3, 1, 2)


def truth(rooms: Rooms, first: int, second: int, *, height: int, width: int) -> Truth:
    """Flow from one frame to another, exact, with what is out of sight or hidden in the other.

    A point is hidden if a ray to it, through where it falls between the pixels, hits something
    before it.
    """
    rays = directions(height, width)
    hits = look(rooms, first, rays, rooms.pose[:, first])
    end = _at(rooms, second)
    number = (hits.thing - PLANES).clamp_min(0)
    there = end.center.gather(1, number[..., None].expand(-1, -1, 3))
    moved = turn_y(hits.local, end.yaw.gather(1, number)) + there
    point = torch.where((hits.thing < PLANES)[..., None], hits.local, moved)
    pose = rooms.pose[:, second]
    seen = (point - pose[:, None, :3, 3]) @ pose[:, :3, :3]
    depth = seen[..., 2]
    across = seen / depth.clamp_min(0.05)[..., None]
    focal = focal_length(width)
    flow = focal * (across - rays)[..., :2]
    place = focal * across[..., :2] + torch.tensor([(width - 1) / 2, (height - 1) / 2])
    # rounding must not push the border out of sight
    inside = (place > -EDGE) & (place < torch.tensor([width - 1, height - 1]) + EDGE)
    met = look(rooms, second, across, pose).depth
    hidden = met < depth * (1 - 1e-3) - 1e-3
    occluded = ~inside.all(-1) | (depth <= 0.05) | hidden
    shape = (len(depth), height, width)
    return Truth(
        flow.mT.reshape(len(depth), 2, height, width),
        occluded.view(shape),
        hits.depth.view(shape),
    )
