"""Propagation: the first frame's masks, carried through the film by features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.source import DataSource
from unlabeled.data.videos import ClipSource
from unlabeled.evaluators.evaluator import Figure, Measure, device_of
from unlabeled.ops.propagation import boundary_similarity, propagate, region_similarity

CHUNK = 8
COLORS = ((0.95, 0.3, 0.2), (0.2, 0.75, 0.35), (0.25, 0.45, 0.95), (0.95, 0.8, 0.2))


@dataclass(frozen=True, kw_only=True)
class Propagation:
    """J and F of things that are followed from their masks in the first frame (DAVIS 2017).

    Soft masks are carried on the grid of the features, enlarged, and each pixel given to the
    largest. Figures are means over things and frames without the first and the last; a thing that
    the first frame does not show is left out. The floor without a network is the first frame's
    mask, kept.

    Args:
        context: frames before that are searched, besides the first.
        radius: in positions of the grid.
        top: positions that count.
        temperature: of their weights.
    """

    context: int = 7
    radius: float = 5.0
    top: int = 10
    temperature: float = 0.05
    name: str = "propagation"
    needs: str = "frames"
    every: int | None = None
    protocol: str = "propagation/v1"

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Follow the things of "test"."""
        return _measures(self.followed(predict, data), _masks(data))

    def plain(self, data: DataSource) -> list[Measure]:
        """Keep the first frame's masks."""
        masks = _masks(data)
        return _measures(masks[:, :1].expand_as(masks), masks)

    def figures(self, predict: Any, data: DataSource) -> list[Figure]:
        """Films of three clips: what is followed over the true masks."""
        masks = _masks(data)[:3]
        found = self.followed(predict, data, most=3)
        frames = data.split("test").__getitems__(list(range(len(masks))))["views"][0]
        rows = torch.cat([_tinted(frames, found), _tinted(frames, masks)], 3)  # below each other
        film = torch.cat(rows.unbind(0), 3)
        zoom = max(1, 120 // frames.shape[-1])
        film = film.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
        return [Figure("Masks followed from the first frame, above the true ones", film, rate=5.0)]

    @torch.no_grad()
    def followed(self, predict: Any, data: DataSource, *, most: int | None = None) -> Tensor:
        """[N, T, H, W] uint8 of the first test clips, on the CPU."""
        masks = _masks(data)[:most]
        samples, prepare = data.split("test"), data.prepare(data.spec())
        place, found = device_of(predict), []
        for start in range(0, len(masks), CHUNK):
            rows = list(range(start, min(start + CHUNK, len(masks))))
            clips = prepare(samples.__getitems__(rows)).to(place)
            maps = predict(clips.flatten(0, 1)).float()
            maps = maps.view(*clips.shape[:2], *maps.shape[1:])
            kinds = F.one_hot(masks[rows, 0].long().to(place), int(masks.max()) + 1)
            first = F.interpolate(
                kinds.permute(0, 3, 1, 2).float(), size=maps.shape[3:], mode="area"
            )
            soft = propagate(
                maps,
                first,
                context=self.context,
                radius=self.radius,
                top=min(self.top, maps.shape[3] * maps.shape[4]),
                temperature=self.temperature,
            )
            large = F.interpolate(
                soft.flatten(0, 1), size=masks.shape[2:], mode="bilinear", align_corners=False
            )
            found.append(large.argmax(1).view(len(rows), *masks.shape[1:]).byte().cpu())
        return torch.cat(found)


def _masks(data: DataSource) -> Tensor:
    masks = data.masks("test") if isinstance(data, ClipSource) else None
    if masks is None:
        raise ValueError(
            f"{data.name} has no masks to follow: judge on clips (--data clips), or give "
            "label-free protocols"
        )
    return masks


def _measures(found: Tensor, masks: Tensor) -> list[Measure]:
    things = torch.arange(1, int(masks.max()) + 1)
    inner = slice(1, max(2, masks.shape[1] - 1))
    one = found[:, inner, None] == things[:, None, None]
    other = masks[:, inner, None] == things[:, None, None]  # [N, T, K, H, W]
    shown = (masks[:, 0, None] == things[:, None, None]).flatten(2).any(2)  # [N, K]
    scores = {
        name: 100 * score(one, other).mean(1)[shown]
        for name, score in (("j", region_similarity), ("f", boundary_similarity))
    }
    scores["jf"] = (scores["j"] + scores["f"]) / 2
    return [
        Measure(metric=name, value=float(scores[name].mean()), test=len(masks))
        for name in ("j", "f", "jf")
    ]


def _tinted(frames: Tensor, masks: Tensor) -> Tensor:
    """[N, T, 3, H, W] in [0, 1]: things in colors of their own, the ground gray."""
    color = torch.tensor(((0.5, 0.5, 0.5), *COLORS))[masks.long().clamp_max(len(COLORS))]
    gray = frames.float().mean(2, keepdim=True) / 255
    return 0.45 * gray + 0.55 * color.permute(0, 1, 4, 2, 3) * (0.5 + 0.5 * gray)
