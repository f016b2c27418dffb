"""Rays through pixels, and what is seen along them: volume rendering and its sampling.

Cameras look along -z with y up (OpenGL); a pose is camera-to-world [3 or 4, 4].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float

FAR_AWAY = 1e10
"""The length of the last interval of a ray."""


def pixel_rays(
    height: int, width: int, *, focal: float, pose: Float[Tensor, "_ 4"]
) -> Float[Tensor, "N 6"]:
    """Rays of all pixels in row order: origin, then direction of camera depth 1.

    ``d = R ((u - W/2) / f, -(v - H/2) / f, -1)``, ``o = t`` (NeRF, released code), with u and v at
    the pixels' middles, so that the image's center is on the axis.
    """
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    across, down = (u - width / 2) / focal, (v - height / 2) / focal
    camera = torch.stack([across, -down, -torch.ones_like(u)], -1).flatten(0, 1).to(pose)
    direction = camera @ pose[:3, :3].T
    return torch.cat([pose[:3, 3].expand_as(direction), direction], 1)


def ndc_rays(
    rays: Float[Tensor, "N 6"], *, height: int, width: int, focal: float, near: float = 1.0
) -> Float[Tensor, "N 6"]:
    """Rays in normalized device coordinates, for scenes in front of the camera (NeRF, app. C).

    The near plane goes to z = -1 and what is infinitely far to +1, so t runs from 0 to 1.
    """
    origin, direction = rays.split(3, 1)
    origin = origin - (near + origin[:, 2:]) / direction[:, 2:] * direction
    scale = rays.new_tensor([-focal / (width / 2), -focal / (height / 2)])
    slope = origin[:, :2] / origin[:, 2:]
    moved = torch.cat([scale * slope, 1 + 2 * near / origin[:, 2:]], 1)
    turned = scale * (direction[:, :2] / direction[:, 2:] - slope)
    return torch.cat([moved, turned, -2 * near / origin[:, 2:]], 1)


class Seen(NamedTuple):
    """What a ray sees.

    ``color`` [N, C], ``depth`` [N] in the units of t, ``opacity`` [N], ``weights`` [N, S].
    """

    color: Tensor
    depth: Tensor
    opacity: Tensor
    weights: Tensor


def composite(
    color: Float[Tensor, "N S C"],
    density: Float[Tensor, "N S"],
    t: Float[Tensor, "N S"],
    length: Float[Tensor, " N"],
    *,
    last: float = FAR_AWAY,
    white: bool = False,
) -> Seen:
    """Numerical quadrature of the volume rendering integral (NeRF, eq. 3).

    ``C = sum_i T_i (1 - exp(-sigma_i delta_i)) c_i`` with ``T_i = exp(-sum_{j<i} sigma_j delta_j)``
    and ``delta_i = (t_{i+1} - t_i) |d|``.

    Args:
        color: at the samples.
        density: sigma, at least 0.
        t: places on the ray, ascending.
        length: |d| of each ray.
        last: what stands for the interval after the last sample.
        white: put the rest of the ray on white: ``C + (1 - sum w)``.
    """
    delta = torch.cat([t.diff(dim=1), torch.full_like(t[:, :1], last)], 1) * length[:, None]
    alpha = 1 - torch.exp(-density * delta)
    passed = torch.cumprod(1 - alpha + 1e-10, 1)
    weights = alpha * torch.cat([torch.ones_like(passed[:, :1]), passed[:, :-1]], 1)
    seen, opacity = (weights[..., None] * color).sum(1), weights.sum(1)
    if white:
        seen = seen + (1 - opacity[:, None])
    return Seen(seen, (weights * t).sum(1), opacity, weights)


def sample_pdf(
    edges: Float[Tensor, "N S+1"], weights: Float[Tensor, "N S"], u: Float[Tensor, "N F"]
) -> Float[Tensor, "N F"]:
    """Draw from the piecewise constant density with these weights, by its inverse CDF at ``u``.

    NeRF, section 5.2; 1e-5 is added to every weight, as in the released code.
    """
    share = weights + 1e-5
    cdf = (share / share.sum(1, keepdim=True)).cumsum(1)
    cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf], 1)
    above = torch.searchsorted(cdf.contiguous(), u.contiguous(), right=True)
    above = above.clamp(1, cdf.shape[1] - 1)
    low, high = cdf.gather(1, above - 1), cdf.gather(1, above)
    start, end = edges.gather(1, above - 1), edges.gather(1, above)
    span = high - low
    inside = torch.where(span < 1e-5, torch.zeros_like(u), (u - low) / span.clamp_min(1e-5))
    return start + inside * (end - start)
