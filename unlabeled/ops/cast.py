"""Rays through analytic scenes: what each hits first, where, and its color."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NEAR = 1e-4


class Texture(NamedTuple):
    """``c0 + sum_m A_m sin(w_m . X + phi_m)``: defined everywhere and band limited.

    [B, P, 3], [B, P, M, 3] in rad/m, [B, P, M], [B, P, M, 3]: of P things in B scenes.
    """

    base: Tensor
    wave: Tensor
    phase: Tensor
    amplitude: Tensor


class Boxes(NamedTuple):
    """Centers [B, P, 3] and half extents [B, P, 3] in m, angles about y [B, P] in radians."""

    center: Tensor
    half: Tensor
    yaw: Tensor


class Hits(NamedTuple):
    """What rays [B, N] meet: depth (the factor of the direction), thing, its local coordinates."""

    depth: Tensor
    thing: Tensor
    local: Tensor


def turn_y(point: Tensor, yaw: Tensor) -> Tensor:
    """[..., 3] turned about the y axis: x to z by positive angles."""
    x, y, z = point.unbind(-1)
    cos, sin = yaw.cos(), yaw.sin()
    return torch.stack([cos * x - sin * z, y, sin * x + cos * z], -1)


def plane_depth(origin: Tensor, direction: Tensor, normal: Tensor, offset: Tensor) -> Tensor:
    """[B, N, P]: where rays leave through ``n . x = c``, seen from inside; infinite if never.

    Args:
        origin: [B, N, 3].
        direction: [B, N, 3].
        normal: [P, 3].
        offset: [B, P], c.
    """
    toward = direction @ normal.T
    k = (offset[:, None] - origin @ normal.T) / toward.clamp_min(1e-6)
    return torch.where((toward > 1e-6) & (k > NEAR), k, torch.inf)


def box_depth(origin: Tensor, direction: Tensor, boxes: Boxes) -> Tensor:
    """[B, N, P]: where rays enter boxes; infinite where they miss."""
    yaw = -boxes.yaw[:, None]
    start = turn_y(origin[:, :, None] - boxes.center[:, None], yaw)
    along = turn_y(direction[:, :, None].expand_as(start), yaw)
    along = torch.where(along.abs() < 1e-9, 1e-9, along)
    half = boxes.half[:, None]
    one, other = (-half - start) / along, (half - start) / along
    enter = torch.minimum(one, other).amax(-1)
    leave = torch.maximum(one, other).amin(-1)
    return torch.where((leave > enter) & (enter > NEAR), enter, torch.inf)


def cast(
    origin: Tensor, direction: Tensor, *, normal: Tensor, offset: Tensor, boxes: Boxes
) -> Hits:
    """Return the first of planes and boxes that each ray meets; planes are numbered first.

    Local coordinates are those of the world for planes, and of the box for boxes, so that what is
    painted on a box moves with it.
    """
    depth = torch.cat(
        [plane_depth(origin, direction, normal, offset), box_depth(origin, direction, boxes)], 2
    )
    depth, thing = depth.min(2)
    point = origin + depth.nan_to_num(posinf=0.0)[..., None] * direction
    number = (thing - len(normal)).clamp_min(0)
    center = boxes.center.gather(1, number[..., None].expand(-1, -1, 3))
    own = turn_y(point - center, -boxes.yaw.gather(1, number))
    return Hits(depth, thing, torch.where((thing < len(normal))[..., None], point, own))


def paint(hits: Hits, texture: Texture) -> Tensor:
    """[B, N, 3] in [0, 1]: the color of what is hit."""
    scene = torch.arange(len(hits.thing), device=hits.thing.device)[:, None]
    base, wave, phase, amplitude = (part[scene, hits.thing] for part in texture)
    angle = (wave @ hits.local[..., None])[..., 0] + phase
    return (base + (angle.sin()[..., None, :] @ amplitude)[..., 0, :]).clamp(0, 1)
