"""Fashion-MNIST (Xiao et al. 2017): 60,000 + 10,000 gray photos of 28x28 in ten classes."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from unlabeled.data.debian import unpack
from unlabeled.data.images import ArraySamples, ImageSource, cache_folder, log, no_split
from unlabeled.data.source import ImageSpec

DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
REMEDY = "run: unlabeled data get fashion-mnist"

# sha256 of the unpacked files: packages compress them differently
FILES = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
PREFIX = {"train": "train", "test": "t10k"}
SIZES = {"train": 60_000, "test": 10_000}


@dataclass(frozen=True)
class FashionMnist(ImageSource):
    """Fashion-MNIST with its official split.

    Searched in ``root``, in our cache folder and in Debian's folder, in this order; nothing is
    fetched before `get` is called. Files whose content is not Fashion-MNIST are refused.

    Raises:
        FileNotFoundError: at the first ``split``, if no place has the four files.
    """

    root: str | None = None

    @property
    def name(self) -> str:
        """``fashion-mnist``."""
        return "fashion-mnist"

    @property
    def classes(self) -> tuple[str, ...]:
        """The ten kinds of clothing."""
        return (
            "t-shirt", "trouser", "pullover", "dress", "coat",
            "sandal", "shirt", "sneaker", "bag", "boot",
        )  # fmt: skip

    def size(self, split: str) -> int:
        """60,000 or 10,000; needs no files."""
        if split not in SIZES:
            raise no_split(self.name, split, SIZES)
        return SIZES[split]

    def spec(self) -> ImageSpec:
        """Return 28 px, one channel, the statistics of the training set; needs no files."""
        return ImageSpec(channels=1, size=28, mean=(0.2860,), std=(0.3530,))

    def split(self, name: str) -> ArraySamples:
        """Return "train" or "test"."""
        if name not in SIZES:
            raise no_split(self.name, name, SIZES)
        return _read(find(self.root), name)


@lru_cache(maxsize=2)
def _read(folder: Path, split: str) -> ArraySamples:
    images, label = (
        read_idx(_file(folder, name), sha256=FILES[name])
        for name in (f"{PREFIX[split]}-images-idx3-ubyte", f"{PREFIX[split]}-labels-idx1-ubyte")
    )
    return ArraySamples(images[:, None], label=label)


def read_idx(path: Path, *, sha256: str | None = None) -> Tensor:
    """Read an IDX file of uint8, gzipped or not: bytes 0 0 8 n, n big-endian int32 sizes, data.

    Raises:
        ValueError: damaged or not IDX; the message names the file.
    """
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} is damaged ({error}): delete it and {REMEDY}") from error
    head = content[:4]
    if len(head) < 4 or head[:3] != b"\x00\x00\x08" or not head[3]:
        raise ValueError(f"{path} is no IDX file of bytes (it starts with {head!r})")
    start = 4 + 4 * head[3]
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    if len(content) - start != math.prod(shape):
        raise ValueError(
            f"{path} holds {len(content) - start} bytes, its header says "
            f"{' x '.join(map(str, shape))}: delete it and {REMEDY}"
        )
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path} is not Fashion-MNIST's (sha256 differs): move it and {REMEDY}")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=start).view(shape)


# Where the files are -----------------------------------------------------------------------------


def _file(folder: Path, name: str) -> Path:
    packed = folder / f"{name}.gz"
    return packed if packed.is_file() else folder / name


def _holds(folder: Path) -> bool:
    return all(_file(folder, name).is_file() for name in FILES)


def find(root: str | None = None) -> Path:
    """Return the first local folder with all four files; no network.

    Raises:
        FileNotFoundError: none has them; the message lists the places and the remedy.
    """
    given = [] if root is None else [Path(root).expanduser()]
    inside = [folder / below for folder in given for below in ("fashion-mnist", "FashionMNIST/raw")]
    places = [*given, *inside, cache_folder("fashion-mnist"), DEBIAN_FOLDER]
    for place in places:
        if _holds(place):
            if given and place not in (*given, *inside):
                log.warning("fashion-mnist is not in %s: taking it from %s", root, place)
            return place
    tried = [*given, cache_folder("fashion-mnist"), DEBIAN_FOLDER]
    raise FileNotFoundError(f"fashion-mnist is not in {', '.join(map(str, tried))}: {REMEDY}")


def get(root: str | None = None) -> Path:
    """Find the files or fetch them into our cache folder; each failure is logged in one line.

    Tries the local places, then the Debian package (unpacked without root), then torchvision's
    download.

    Raises:
        OSError: no way worked; the message names all of them.
    """
    try:
        return find(root)
    except FileNotFoundError as error:
        failures = [str(error).removesuffix(f": {REMEDY}")]
        log.warning(failures[-1])
    ways: dict[str, Callable[[Path], Path]] = {
        f"Debian package {DEBIAN_PACKAGE}": _from_debian,
        "torchvision's download": _from_torchvision,
    }
    for way, fetch in ways.items():
        with tempfile.TemporaryDirectory(prefix="unlabeled-") as work:
            try:
                return _keep(fetch(Path(work)))
            except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
                failures.append(f"{way}: {' '.join(str(error).split())[-300:]}")
                log.warning(failures[-1])
    raise OSError(f"fashion-mnist cannot be had. {'. '.join(failures)}")


def _keep(found: Path) -> Path:
    """Check the files and move them to the cache folder, each in one step."""
    target = cache_folder("fashion-mnist")
    target.mkdir(parents=True, exist_ok=True)
    for name, sha256 in FILES.items():
        source = _file(found, name)
        read_idx(source, sha256=sha256)
        part = target / f"{source.name}.part{os.getpid()}"
        shutil.copyfile(source, part)
        part.replace(target / source.name)
    return target


def _from_debian(work: Path) -> Path:
    return unpack([DEBIAN_PACKAGE], work) / DEBIAN_FOLDER.relative_to("/")


def _from_torchvision(work: Path) -> Path:
    from torchvision.datasets import FashionMNIST

    FashionMNIST(root=str(work), download=True)
    return work / "FashionMNIST" / "raw"
