"""FlowError: predicted against true flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unlabeled.data.pairs import FramePairs, Motion
from unlabeled.data.source import DataSource
from unlabeled.evaluators.evaluator import Figure, Measure, device_of

CHUNK = 20


@dataclass(frozen=True, kw_only=True)
class FlowError:
    """End-point error in px, of all pixels, of those both frames show and of the others; F1-all.

    ``F1-all`` is the share of pixels whose error is above 3 px and above 5 % of the true length
    (KITTI 2015). The floor without a network is no motion. Pixels whose flow is not known are left
    out; figures are means over pixels.
    """

    name: str = "flow"
    needs: str = "flow"
    every: int | None = None
    protocol: str = "flow/v1"

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Predict the flow of "test"."""
        return _measures(predicted(predict, data), _motion(data))

    def plain(self, data: DataSource) -> list[Measure]:
        """No motion."""
        motion = _motion(data)
        return _measures(torch.zeros_like(motion.flow), motion)

    def figures(self, predict: Any, data: DataSource) -> list[Figure]:
        """The first test pairs: frame, true flow, predicted flow, by hue and saturation."""
        from torchvision.utils import flow_to_image

        motion = _motion(data)
        count = min(4, len(motion.flow))
        found = predicted(predict, data, most=count)
        frames = data.split("test").__getitems__(list(range(count)))["views"][0]
        known = motion.flow[:count].nan_to_num()
        # one scale for both: the color of a pixel of longest flow is full
        joined = flow_to_image(torch.cat([known, found], 3))
        rows = torch.cat([frames[:, 0], joined], 3).float() / 255
        picture = rows.permute(1, 0, 2, 3).flatten(1, 2)[None]
        zoom = max(1, 640 // rows.shape[-1])
        picture = picture.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
        return [Figure("Test frames, true flow, predicted flow", picture)]


@torch.no_grad()
def predicted(predict: Any, data: DataSource, *, most: int | None = None) -> Tensor:
    """[N, 2, H, W] on the CPU, of the first test pairs."""
    samples, prepare = data.split("test"), data.prepare(data.spec())
    count = len(samples) if most is None else min(most, len(samples))
    place, parts = device_of(predict), []
    for start in range(0, count, CHUNK):
        batch = samples.__getitems__(list(range(start, min(start + CHUNK, count))))
        parts.append(predict(prepare(batch).to(place)).float().cpu())
    return torch.cat(parts)


def _motion(data: DataSource) -> Motion:
    motion = data.motion("test") if isinstance(data, FramePairs) else None
    if motion is None:
        raise ValueError(
            f"{data.name} has no true flow: judge on rooms or motorcycle (--data), or give "
            "label-free protocols"
        )
    return motion


def _measures(flow: Tensor, motion: Motion) -> list[Measure]:
    known = motion.flow.isfinite().all(1)
    error = (flow - motion.flow).norm(dim=1)
    length = motion.flow.norm(dim=1)
    wrong = (error > 3) & (error > 0.05 * length)
    count = len(flow)

    def epe(metric: str, where: Tensor) -> Measure:
        value = float(error[where].double().mean())
        return Measure(metric=metric, value=value, test=count, unit="px", higher_is_better=False)

    found = [epe("epe", known)]
    if motion.occluded is not None:
        found.append(epe("epe_visible", known & ~motion.occluded))
        found.append(epe("epe_occluded", known & motion.occluded))
    share = 100 * float(wrong[known].double().mean())
    return [*found, Measure(metric="f1_all", value=share, test=count, higher_is_better=False)]
