"""Labels carried along a film by the likeness of features, and how well masks agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def propagate(
    features: Float[Tensor, "B T D h w"],
    first: Float[Tensor, "B C h w"],
    *,
    context: int,
    radius: float,
    top: int,
    temperature: float,
) -> Float[Tensor, "B T C h w"]:
    """Soft labels of all frames from those of the first (CRW, section 3.4 and appendix).

    A position takes the labels of the ``top`` most similar ones in the first frame and in the
    ``context`` frames before it, these within ``radius``, weighted by a softmax of the cosines.

    Args:
        features: of each frame.
        first: labels of frame 0, one channel a class.
        context: frames before.
        radius: in positions; the first frame is searched whole.
        top: how many positions count.
        temperature: of the softmax.
    """
    batch, frames, _, height, width = features.shape
    nodes = F.normalize(features.float(), dim=2).flatten(3)  # [B, T, D, N]
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([v, u], -1).flatten(0, 1).to(features.device, torch.float32)
    far = torch.cdist(place, place) > radius
    labels = [first.flatten(2).float()]
    for time in range(1, frames):
        before = [0, *range(max(1, time - context), time)]
        keys = torch.cat([nodes[:, one] for one in before], 2)
        known = torch.cat([labels[one] for one in before], 2)  # [B, C, K N]
        alike = nodes[:, time].mT @ keys
        hidden = torch.cat([torch.zeros_like(far), *[far] * (len(before) - 1)], 1)
        best, where = alike.masked_fill(hidden, -torch.inf).topk(top, dim=2)
        weight = (best / temperature).softmax(2)  # [B, N, top]
        taken = known.mT.gather(1, where.flatten(1)[..., None].expand(-1, -1, known.shape[1])).view(
            batch, height * width, top, -1
        )
        labels.append((weight[..., None] * taken).sum(2).mT)
    return torch.stack(labels, 1).view(batch, frames, -1, height, width)


def region_similarity(
    found: Bool[Tensor, "*B H W"], truth: Bool[Tensor, "*B H W"]
) -> Float[Tensor, "*B"]:
    """J: intersection over union of masks; 1 where both are empty (Perazzi et al. 2016)."""
    both = (found & truth).flatten(-2).sum(-1)
    either = (found | truth).flatten(-2).sum(-1)
    return torch.where(either > 0, both / either.clamp_min(1), 1.0)


def boundary(mask: Bool[Tensor, "*B H W"]) -> Bool[Tensor, "*B H W"]:
    """The mask's own pixels that touch, by a side, what is not in it; the frame's edge does not."""
    shape = mask.shape
    flat = F.pad(mask.view(-1, 1, *shape[-2:]).float(), (1, 1, 1, 1), mode="replicate")
    inner = torch.stack(
        [
            flat[:, :, 1:-1, 1:-1],
            flat[:, :, :-2, 1:-1],
            flat[:, :, 2:, 1:-1],
            flat[:, :, 1:-1, :-2],
            flat[:, :, 1:-1, 2:],
        ]
    ).amin(0)
    return mask & ~inner.bool().view(shape)


def boundary_similarity(
    found: Bool[Tensor, "*B H W"], truth: Bool[Tensor, "*B H W"], *, tolerance: float = 0.008
) -> Float[Tensor, "*B"]:
    """F: harmonic mean of the boundaries' precision and recall (Perazzi et al. 2016).

    A boundary pixel counts where the other boundary is within ``tolerance`` diagonals of the
    frame, rounded up to whole pixels.
    """
    height, width = truth.shape[-2:]
    reach = max(1, round((height**2 + width**2) ** 0.5 * tolerance + 0.5))
    line = torch.arange(-reach, reach + 1, device=truth.device)
    disk = (line[:, None] ** 2 + line**2 <= reach**2).float()[None, None]
    edges, near = [], []
    for mask in (found, truth):
        edge = boundary(mask)
        edges.append(edge.flatten(-2).float())
        spread = F.conv2d(edge.view(-1, 1, height, width).float(), disk, padding=reach) > 0
        near.append(spread.view(truth.shape).flatten(-2).float())
    counts = [edge.sum(-1) for edge in edges]
    precision = (edges[0] * near[1]).sum(-1) / counts[0].clamp_min(1)
    recall = (edges[1] * near[0]).sum(-1) / counts[1].clamp_min(1)
    score = 2 * precision * recall / (precision + recall).clamp_min(1e-12)
    return torch.where(counts[0] + counts[1] > 0, score, 1.0)
