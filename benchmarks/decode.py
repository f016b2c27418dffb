"""Reading JPEG photographs: our decoder, the same without simplejpeg, and plain Pillow.

usage: python benchmarks/decode.py [PHOTO ...]

The photographs (by default the two that come with scikit-learn) are brought to several sizes,
saved as JPEG (quality 90, 4:2:0), and read at several target sides in one thread. One line a size
comes out: medians over interleaved rounds, and ratios over Pillow.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from unlabeled.data import decode

ROUNDS = 7
FILES = ((256, (224,)), (375, (96, 224)), (512, (192, 224, 448)), (1024, (224, 512)))
"""Shorter side of the file, and the target sides to which it is read."""


def photographs() -> list[str]:
    """Return the paths given, or scikit-learn's two photographs."""
    import sklearn.datasets

    folder = Path(sklearn.datasets.__file__).parent / "images"
    return sys.argv[1:] or sorted(str(path) for path in folder.glob("*.jpg"))


def by_pillow(path: str, side: int) -> np.ndarray:
    """Decode with Pillow's draft mode and resize with Pillow, as people do."""
    with Image.open(path) as image:
        image.draft("RGB", (side, side))
        width, height = image.size
        scale = side / min(width, height)
        size = (round(width * scale), round(height * scale))
        small = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.array(np.asarray(small).transpose(2, 0, 1), order="C")


def interleaved(cases: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Run the cases in turn, round by round; return each one's median seconds of this process."""
    spent: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, case in cases.items():
            started = time.process_time()  # one thread: no waiting for other processes in it
            case()
            spent[name].append(time.process_time() - started)
    return {name: statistics.median(values) for name, values in spent.items()}


def main() -> None:
    codec = decode._simplejpeg()
    with tempfile.TemporaryDirectory() as folder:
        for shorter, sides in FILES:
            files = []
            for number, source in enumerate(photographs()):
                image = Image.open(source).convert("RGB")
                scale = shorter / min(image.size)
                size = (round(image.width * scale), round(image.height * scale))
                files.append(f"{folder}/{shorter}-{number}.jpg")
                image.resize(size, Image.Resampling.LANCZOS).save(files[-1], quality=90)
            for side in sides:
                target = decode.Target(channels=3, side=side)

                def ours(module: object, files: list[str] = files, target=target) -> None:
                    decode._simplejpeg = lambda: module
                    for path in files:
                        decode.read_image(path, target)

                spent = interleaved(
                    {
                        "Pillow": lambda files=files, side=side: [
                            by_pillow(path, side) for path in files
                        ],
                        "ours without simplejpeg": lambda: ours(None),
                        "ours": lambda: ours(codec),
                    }
                )
                text = " | ".join(
                    f"{name} {seconds / len(files) * 1e3:.2f} ms x{spent['Pillow'] / seconds:.2f}"
                    for name, seconds in spent.items()
                )
                kilobytes = sum(Path(path).stat().st_size for path in files) / len(files) / 1e3
                print(f"decode | {shorter} px ({kilobytes:.0f} kB) to {side} px | {text}")


if __name__ == "__main__":
    main()
