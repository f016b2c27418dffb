"""Where rays enter simple solids, exactly: balls, blocks, frusta and rings, z up."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

NEAR = 1e-4
RING_STEPS = 40


class Entry(NamedTuple):
    """First hits of rays: depth [...], the factor of the direction, infinite where they miss.

    ``normal`` [..., 3] points outwards and has unit length; where a ray misses it is anything.
    """

    depth: Tensor
    normal: Tensor


def ball(origin: Tensor, direction: Tensor, *, center: tuple[float, ...], radius: float) -> Entry:
    """A sphere: ``|o + k d - c| = r``, the smaller root."""
    apart = origin - origin.new_tensor(center)
    a, b = direction.square().sum(-1), (apart * direction).sum(-1)
    root = b.square() - a * (apart.square().sum(-1) - radius**2)
    depth = (-b - root.clamp_min(0).sqrt()) / a
    depth = torch.where((root > 0) & (depth > NEAR), depth, torch.inf)
    return Entry(depth, (apart + _finite(depth)[..., None] * direction) / radius)


def block(
    origin: Tensor, direction: Tensor, *, center: tuple[float, ...], half: tuple[float, ...]
) -> Entry:
    """A box along the axes, by slabs."""
    apart, size = origin - origin.new_tensor(center), origin.new_tensor(half)
    along = torch.where(direction.abs() < 1e-9, 1e-9, direction)
    one, other = (-size - apart) / along, (size - apart) / along
    enter, axis = torch.minimum(one, other).max(-1)
    leave = torch.maximum(one, other).amin(-1)
    depth = torch.where((leave > enter) & (enter > NEAR), enter, torch.inf)
    return Entry(depth, -F.one_hot(axis, 3) * along.sign())


def frustum(
    origin: Tensor,
    direction: Tensor,
    *,
    center: tuple[float, ...],
    bottom: float,
    top: float,
    half: float,
) -> Entry:
    """A cone about z cut off by two disks; a cylinder where both radii are equal.

    Its side is ``x^2 + y^2 = (m + s z)^2`` with m the mean radius and s its slope.
    """
    apart = origin - origin.new_tensor(center)
    mean, slope = (bottom + top) / 2, (top - bottom) / (2 * half)
    (ox, oy, oz), (dx, dy, dz) = apart.unbind(-1), direction.unbind(-1)
    radius, growth = mean + slope * oz, slope * dz
    a = dx.square() + dy.square() - growth.square()
    a = torch.where(a.abs() < 1e-9, 1e-9, a)
    b = ox * dx + oy * dy - radius * growth
    root = b.square() - a * (ox.square() + oy.square() - radius.square())
    found = torch.full_like(oz, torch.inf)
    normal = torch.zeros_like(apart)
    for sign in (-1.0, 1.0):
        k = (-b + sign * root.clamp_min(0).sqrt()) / a
        z = oz + k * dz
        valid = (root > 0) & (z.abs() <= half) & (k > NEAR) & (k < found)
        x, y = ox + k * dx, oy + k * dy
        out = F.normalize(torch.stack([x, y, -slope * (mean + slope * z)], -1), dim=-1)
        found, normal = torch.where(valid, k, found), torch.where(valid[..., None], out, normal)
    slow = torch.where(dz.abs() < 1e-9, 1e-9, dz)
    for side, radius_of in ((-1.0, bottom), (1.0, top)):
        k = (side * half - oz) / slow
        inside = (ox + k * dx).square() + (oy + k * dy).square() <= radius_of**2
        valid = inside & (k > NEAR) & (k < found)
        out = origin.new_tensor([0.0, 0.0, side]).expand_as(normal)
        found, normal = torch.where(valid, k, found), torch.where(valid[..., None], out, normal)
    return Entry(found, normal)


def ring(
    origin: Tensor,
    direction: Tensor,
    *,
    center: tuple[float, ...],
    axis: int,
    radius: float,
    tube: float,
) -> Entry:
    """A torus about one of the axes, by sphere tracing from the ball around it.

    Its distance ``|(|p_flat| - R, p_axis)| - r`` is exact, so that steps of it never pass through;
    rays that are still farther than a thousandth of the tube after the last step miss.
    """
    depth = ball(origin, direction, center=center, radius=radius + tube).depth
    normal = torch.zeros_like(direction)
    rows = depth.isfinite()  # the others miss the ball, and need no tracing
    start = (origin - origin.new_tensor(center)).expand_as(direction)[rows]
    along, k = direction[rows], depth[rows]
    speed = along.norm(dim=-1)
    flat = [dim for dim in range(3) if dim != axis]
    for _ in range(RING_STEPS):
        k = k + _ring_distance(start + k[:, None] * along, axis, radius, tube) / speed
    point = start + k[:, None] * along
    left = _ring_distance(point, axis, radius, tube)
    depth[rows] = torch.where(left.abs() < 1e-3 * tube, k, torch.inf)
    across = point[:, flat].norm(dim=-1, keepdim=True)
    point[:, flat] *= 1 - radius / across.clamp_min(1e-9)
    normal[rows] = F.normalize(point, dim=-1)
    return Entry(depth, normal)


def _ring_distance(point: Tensor, axis: int, radius: float, tube: float) -> Tensor:
    first, second = (point[:, dim] for dim in range(3) if dim != axis)
    return torch.hypot(torch.hypot(first, second) - radius, point[:, axis]) - tube


def nearer(one: Entry, other: Entry) -> Entry:
    """What comes first of two."""
    first = one.depth <= other.depth
    return Entry(
        torch.where(first, one.depth, other.depth),
        torch.where(first[..., None], one.normal, other.normal),
    )


def _finite(depth: Tensor) -> Tensor:
    return depth.nan_to_num(posinf=0.0)
