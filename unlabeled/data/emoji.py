"""Emoji (Noto Color Emoji): 1,870 colored drawings in nine groups, small data with real color."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from PIL import Image

from unlabeled.data.debian import unpack
from unlabeled.data.font import Font
from unlabeled.data.images import ArraySamples, ImageSource, cache_folder, log, no_split
from unlabeled.data.source import ImageSpec

PACKAGES = ("fonts-noto-color-emoji", "unicode-data")
FILES = ("NotoColorEmoji.ttf", "emoji-test.txt")
DEBIAN_FILES = (
    Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"),
    Path("/usr/share/unicode/emoji/emoji-test.txt"),
)
REMEDY = "run: unlabeled data get emoji"
GROUPS = (
    "Activities", "Animals & Nature", "Flags", "Food & Drink", "Objects",
    "People & Body", "Smileys & Emotion", "Symbols", "Travel & Places",
)  # fmt: skip
SIZES = {"train": 1495, "test": 375}


@dataclass(frozen=True)
class Emoji(ImageSource):
    """The emoji of Unicode 15 without skin tones, drawn by Noto, on white; labels are groups.

    An emoji is in the test split where crc32 of its code points (lower-case hex, joined by "-")
    is a multiple of 5; in a split they stand in the order of that number, so that a part of it
    is a fair sample. Pictures are padded to a square and reduced to ``image_size`` px.

    Args:
        root: a folder with `FILES`; by default emoji in our cache folder, then Debian's folders.
        image_size: side in pixels.

    Raises:
        FileNotFoundError: at the first ``split``, if no place has the two files.
    """

    root: str | None = None
    image_size: int = 32

    def __post_init__(self) -> None:
        if not 8 <= self.image_size <= 136:
            raise ValueError(f"image_size is {self.image_size}: drawings are 136 px, give 8 to 136")

    @property
    def name(self) -> str:
        """``emoji``."""
        return "emoji"

    @property
    def classes(self) -> tuple[str, ...]:
        """The nine groups of Unicode's emoji-test.txt."""
        return GROUPS

    def size(self, split: str) -> int:
        """1,495 or 375; needs no files."""
        if split not in SIZES:
            raise no_split(self.name, split, SIZES)
        return SIZES[split]

    def spec(self) -> ImageSpec:
        """Return three channels and the statistics of the training set; needs no files."""
        return ImageSpec(
            channels=3,
            size=self.image_size,
            mean=(0.8384, 0.7912, 0.7347),
            std=(0.2682, 0.2700, 0.3368),
        )

    def split(self, name: str) -> ArraySamples:
        """Return "train" or "test"."""
        if name not in SIZES:
            raise no_split(self.name, name, SIZES)
        return _read(*find(self.root), self.image_size)[name]


@lru_cache(maxsize=2)
def _read(font_path: Path, list_path: Path, size: int) -> dict[str, ArraySamples]:
    font = Font(font_path)
    rows: dict[str, list[tuple[int, np.ndarray, int]]] = {"train": [], "test": []}
    for points, group in listed(list_path):
        key = crc32("-".join(f"{point:x}" for point in points).encode())
        picture = font.picture(points)
        if picture is None:
            raise ValueError(f"{font_path} has no picture of {points}: {REMEDY}")
        rows["test" if key % 5 == 0 else "train"].append((key, _pixels(picture, size), group))
    found = {}
    for split, members in rows.items():
        members.sort(key=lambda row: row[0])
        if len(members) != SIZES[split]:
            log.warning(
                "emoji: %d in %s, %d in Unicode 15: figures differ from those of other versions",
                len(members), split, SIZES[split],
            )  # fmt: skip
        images = torch.from_numpy(np.stack([pixels for _, pixels, _ in members]))
        label = torch.tensor([group for _, _, group in members])
        found[split] = ArraySamples(images, label=label)
    return found


def listed(path: Path) -> list[tuple[tuple[int, ...], int]]:
    """Return (code points, group) of each fully-qualified emoji without a skin tone.

    Raises:
        ValueError: the file is no emoji-test.txt.
    """
    rows, group = [], ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# group: "):
            group = line.removeprefix("# group: ").strip()
        elif "; fully-qualified" in line and "skin tone" not in line:
            points = tuple(int(text, 16) for text in line.partition(";")[0].split())
            rows.append((points, GROUPS.index(group)))
    if not rows:
        raise ValueError(f"{path} lists no emoji: delete it and {REMEDY}")
    return rows


def _pixels(png: bytes, size: int) -> np.ndarray:
    """[3, size, size] uint8: a picture in the middle of a white square."""
    with Image.open(io.BytesIO(png)) as opened:
        picture = opened.convert("RGBA")
    side = max(picture.size)
    canvas = Image.new("RGBA", (side, side), "white")
    place = ((side - picture.width) // 2, (side - picture.height) // 2)
    canvas.alpha_composite(picture, place)
    small = canvas.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(small).transpose(2, 0, 1).copy()


# Where the files are -----------------------------------------------------------------------------


def find(root: str | None = None) -> tuple[Path, Path]:
    """Return the font and the list of emoji, wherever they lie on this machine; no network.

    Raises:
        FileNotFoundError: no place has both; the message lists the places and the remedy.
    """
    folders = [Path(root).expanduser()] if root is not None else []
    folders.append(cache_folder("emoji"))
    places = [*((folder / FILES[0], folder / FILES[1]) for folder in folders), DEBIAN_FILES]
    for font, names in places:
        if font.is_file() and names.is_file():
            return font, names
    tried = ", ".join(str(font.parent) for font, _ in places)
    raise FileNotFoundError(f"emoji are not in {tried}: {REMEDY}")


def get() -> Path:
    """Find the files or fetch them from Debian into our cache folder; return the font's folder.

    Raises:
        OSError: they cannot be had; the message says what was tried.
    """
    try:
        return find()[0].parent
    except FileNotFoundError:
        log.warning("emoji: fetching the Debian packages %s", ", ".join(PACKAGES))
    target = cache_folder("emoji")
    with tempfile.TemporaryDirectory(prefix="unlabeled-") as work:
        try:
            unpacked = unpack(PACKAGES, Path(work))
            target.mkdir(parents=True, exist_ok=True)
            for place in DEBIAN_FILES:
                part = target / f"{place.name}.part{os.getpid()}"
                shutil.copyfile(unpacked / place.relative_to("/"), part)
                part.replace(target / place.name)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            text = " ".join(str(error).split())[-300:]
            raise OSError(
                f"emoji cannot be had: {text}. Put {' and '.join(FILES)} into {target}"
            ) from error
    return target
