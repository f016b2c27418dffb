"""Motorcycle: a real stereo pair with measured disparity (Middlebury 2014)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unlabeled.data.images import cache_folder, no_split
from unlabeled.data.pairs import FramePairs, Motion, PairSamples
from unlabeled.data.wheels import take_from_wheel

FILES = ("motorcycle_left.png", "motorcycle_right.png", "motorcycle_disp.npz")
REMEDY = "run: unlabeled data get motorcycle"


@dataclass(frozen=True, kw_only=True)
class Motorcycle(FramePairs):
    """The left and the right view, made smaller; flow from left to right is minus the disparity.

    Scharstein et al., "High-resolution stereo datasets with subpixel-accurate ground truth",
    2014, as scikit-image carries it (741 x 500 px). Both splits are the one pair. Disparity that
    was not measured is NaN.

    Args:
        shrink: how many times smaller than the file; disparities go to 60 px there.
    """

    shrink: int = 5

    @property
    def name(self) -> str:
        """``motorcycle``."""
        return "motorcycle"

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return 500 // self.shrink, 740 // self.shrink

    def split(self, name: str) -> PairSamples:
        """Return the pair."""
        if name not in ("train", "test"):
            raise no_split(self.name, name, ("train", "test"))
        pair = _read(self.shrink)[0]
        return PairSamples(1, lambda place: pair)

    def motion(self, split: str) -> Motion:
        """Return minus the disparity; what is hidden is not known."""
        return Motion(_read(self.shrink)[1][None], None)


@lru_cache(maxsize=2)
def _read(shrink: int) -> tuple[Tensor, Tensor]:
    """[2, 3, H, W] uint8 and [2, H, W]."""
    folder = find()
    height, width = 500 // shrink, 740 // shrink
    frames = []
    for name in FILES[:2]:
        image = Image.open(folder / name).convert("RGB").crop((0, 0, width * shrink, 500))
        small = image.resize((width, height), Image.Resampling.BOX)
        frames.append(torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1))
    with np.load(folder / FILES[2]) as file:
        full = torch.from_numpy(np.asarray(file[file.files[0]], np.float32))
    middle = full[shrink // 2 : height * shrink : shrink, shrink // 2 : width * shrink : shrink]
    across = torch.where(middle.isfinite(), -middle / shrink, torch.nan)
    down = torch.where(across.isfinite(), 0.0, torch.nan)
    return torch.stack(frames), torch.stack([across, down])


def find() -> Path:
    """Return the folder of the three files.

    Raises:
        FileNotFoundError: they are not here; says how to get them.
    """
    folder = cache_folder("motorcycle")
    if not all((folder / name).is_file() for name in FILES):
        raise FileNotFoundError(f"motorcycle is not on this machine: {REMEDY}")
    return folder


def get() -> Path:
    """Find the pair, or take it out of scikit-image's wheel, which pip fetches.

    Raises:
        OSError: it cannot be had; the message says why.
    """
    try:
        return find()
    except FileNotFoundError:
        folder = cache_folder("motorcycle")
    try:
        take_from_wheel(
            "scikit-image==0.26.0", into=folder, wanted=lambda name: Path(name).name in FILES
        )
    except OSError as error:
        raise OSError(f"{error}. Put {', '.join(FILES)} into {folder}") from None
    return find()
