"""NovelViews: photos that were held out against the rendered ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unlabeled.data.posed import PosedScene
from unlabeled.data.source import DataSource
from unlabeled.evaluators.evaluator import Figure, Measure, device_of
from unlabeled.ops.rays import Seen, pixel_rays

CHUNK = 4096


def psnr(image: Tensor, truth: Tensor) -> Tensor:
    """[V]: ``-10 log10(MSE)`` in dB of images [V, H, W, C] in [0, 1]."""
    return -10 * (image - truth).square().mean((1, 2, 3)).clamp_min(1e-12).log10()


@dataclass(frozen=True, kw_only=True)
class NovelViews:
    """PSNR and SSIM of held-out photos, and the error of depth where it is known.

    ``depth_error`` is the mean absolute error where something is, in percent of the range of depths
    of the test photos (truth with infinite depth is background). The floor without a network is
    the training photo from the nearest camera.

    Args:
        turntable: frames of the film in the report.
    """

    turntable: int = 24
    name: str = "novel_views"
    needs: str = "render"
    every: int | None = None
    protocol: str = "novel_views/v1"

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Render the test cameras."""
        scene, photos = _scene(data), _scene(data).photos("test")
        seen = [render(predict, scene, pose) for pose in photos.pose]
        color = torch.stack([each.color for each in seen])
        found = _images(color, photos.color)
        if photos.depth is not None:
            depth = torch.stack([each.depth for each in seen])
            found.append(_depth(depth, photos.depth))
        return found

    def plain(self, data: DataSource) -> list[Measure]:
        """Take the training photo whose camera looks most alike."""
        scene = _scene(data)
        train, test = scene.photos("train"), scene.photos("test")
        nearest = (test.pose[:, :3, 2] @ train.pose[:, :3, 2].T).argmax(1)
        return _images(train.color[nearest], test.color)

    def figures(self, predict: Any, data: DataSource) -> list[Figure]:
        """A turntable, and the first held-out photos beside their renderings and depths."""
        scene = _scene(data)
        photos, spec = scene.photos("test"), scene.scene
        rows = []
        for pose, truth in list(zip(photos.pose, photos.color, strict=True))[:3]:
            seen = render(predict, scene, pose)
            near = ((spec.far - seen.depth) / (spec.far - spec.near)).clamp(0, 1)
            gray = (near * seen.opacity)[..., None].expand(-1, -1, 3)
            rows.append(torch.cat([truth, seen.color, gray], 1))
        still = torch.cat(rows).permute(2, 0, 1)[None]
        film = torch.stack(
            [render(predict, scene, pose).color for pose in _around(photos.pose, self.turntable)]
        ).permute(0, 3, 1, 2)
        zoom = max(1, 240 // film.shape[-1])
        return [
            Figure("Once around the scene, rendered", _enlarged(film, zoom)),
            Figure("Held-out photos, renderings, nearness", _enlarged(still, max(1, zoom // 2))),
        ]


@torch.no_grad()
def render(predict: Any, scene: PosedScene, pose: Tensor) -> Seen:
    """Color [H, W, 3], depth and opacity [H, W] of a whole photo, in chunks of rays."""
    spec = scene.scene
    rays = pixel_rays(spec.height, spec.width, focal=spec.focal, pose=pose)
    place = device_of(predict)
    parts = [predict(part.to(place)) for part in rays.split(CHUNK)]
    shape = (spec.height, spec.width)
    color, depth, opacity = (
        torch.cat([getattr(part, name).float().cpu() for part in parts])
        for name in ("color", "depth", "opacity")
    )
    color = color.clamp(0, 1).view(*shape, 3)
    return Seen(color, depth.view(shape), opacity.view(shape), torch.empty(0))


def _scene(data: DataSource) -> PosedScene:
    if not isinstance(data, PosedScene):
        raise ValueError(f"{data.name} has no cameras: give a scene (docs/guide.md)")
    return data


def _images(color: Tensor, truth: Tensor) -> list[Measure]:
    from torchmetrics.functional.image import structural_similarity_index_measure

    noise = psnr(color, truth)
    one, other = color.permute(0, 3, 1, 2), truth.permute(0, 3, 1, 2)
    alike = structural_similarity_index_measure(one, other, data_range=1.0)
    assert isinstance(alike, Tensor)
    return [
        Measure(metric="psnr", value=float(noise.mean()), test=len(truth), unit="dB", hits=noise),
        Measure(metric="ssim", value=float(alike), test=len(truth), unit=""),
    ]


def _depth(depth: Tensor, truth: Tensor) -> Measure:
    there = truth.isfinite()
    span = truth[there].max() - truth[there].min()
    error = 100 * (depth - truth)[there].abs().mean() / span
    return Measure(
        metric="depth_error", value=float(error), test=len(truth), higher_is_better=False
    )


def _around(poses: Tensor, frames: int) -> Tensor:
    """[F, 4, 4]: the first camera, carried once around the vertical axis (z)."""
    angle = torch.arange(frames) / frames * 2 * torch.pi
    turn = torch.zeros(frames, 4, 4)
    turn[:, 0, 0], turn[:, 1, 1] = angle.cos(), angle.cos()
    turn[:, 0, 1], turn[:, 1, 0] = -angle.sin(), angle.sin()
    turn[:, 2, 2] = turn[:, 3, 3] = 1
    return turn @ poses[0]


def _enlarged(frames: Tensor, zoom: int) -> Tensor:
    return frames.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
