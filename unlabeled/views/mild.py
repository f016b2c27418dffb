"""The views of the small() recipes, for little gray pictures of things in the middle."""

from __future__ import annotations

from unlabeled.views.augment import Augment


def mild_augment(
    *,
    scale: tuple[float, float] = (0.3, 1.0),
    strength: float = 0.8,
    solarize: float = 0.0,
    size: int | None = None,
) -> Augment:
    """SimCLR's T for pictures under 64 px without color: milder crops, little blur.

    Crops of 8 % of the area, as the papers have them for photos, leave nothing of a shirt of
    28 px. ``strength`` is that of brightness and contrast.
    """
    return Augment(
        size=size,
        scale=scale,
        brightness=strength,
        contrast=strength,
        saturation=strength,
        hue=strength / 4,
        gray=0.2,
        blur=0.2,
        blur_sigma=(0.1, 1.0),
        solarize=solarize,
    )
