"""Data sources: everything between the disk and the first view."""

from __future__ import annotations

import os
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from unlabeled.data.source import DataSource

__all__ = ["Known", "get", "known", "open_data"]

NAMES = (
    "fashion-mnist", "emoji", "digits", "xrays", "imagenet", "asterisk", "librispeech",
    "still-life", "jumping", "python-docs", "wordnet", "spoken",
    "mutag", "isomers", "rooms", "motorcycle", "clips", "shapes", "stickers",
    "solids",
)  # fmt: skip
FORMS = (
    f"{', '.join(NAMES)}, torchvision/NAME (such as torchvision/CIFAR10), "
    "dm_control/cartpole-balance or -swingup, a folder of images or of recordings or of texts or "
    "of films, frames:FOLDER (frames of films in order), a .txt or .md text, a folder of graphs "
    "(TU format), a folder in COCO's format, a folder of posed photos (transforms.json), a .txt or "
    ".csv or .parquet list of paths, a .npy or .npz file, a pack, tar shards (a folder of them, "
    "train-{000..099}.tar, an http(s) URL, a .txt of these), hf:PATH or hf:NAME[:CONFIG]"
)


class Known(NamedTuple):
    """A data set that has a name: where it was found (None: nowhere), how to get it, its size."""

    name: str
    found: str | None
    remedy: str
    samples: int


def open_data(
    text: str,
    *,
    root: str | None = None,
    channels: int | None = None,
    image_size: int | None = None,
) -> DataSource:
    """Return the source that ``text`` names: a data set's name or a path.

    Args:
        text: one of `FORMS`.
        root: the folder of a named data set, where it is not in its usual place.
        channels: of files on disk: convert all images to so many (default: found in the files).
        image_size: of files on disk: recommended side in pixels (default: found in the files).

    Raises:
        ValueError: a name that is not known; the message lists what is possible.
        FileNotFoundError: a path that does not exist.
    """
    if text == "fashion-mnist":
        from unlabeled.data.fashion_mnist import FashionMnist

        return FashionMnist(root)
    if text == "emoji":
        from unlabeled.data.emoji import Emoji

        return Emoji(root)
    if text == "xrays":
        from unlabeled.data.xrays import XRays

        return XRays()
    if text == "digits":
        from unlabeled.data.digits import Digits

        return Digits()
    if text == "python-docs":
        from unlabeled.data.python_docs import PythonDocs

        return PythonDocs()
    if text == "wordnet":
        from unlabeled.data.wordnet import WordNet

        return WordNet(root)
    if text == "spoken":
        from unlabeled.data.spoken import Spoken

        return Spoken()
    if text == "mutag":
        from unlabeled.data.graphs import Mutag

        return Mutag()
    if text == "isomers":
        from unlabeled.data.isomers import Isomers

        return Isomers()
    if text == "rooms":
        from unlabeled.data.rooms import RoomPairs

        return RoomPairs()
    if text == "stickers":
        from unlabeled.data.stickers import Stickers

        return Stickers(root=root)
    if text == "solids":
        from unlabeled.data.solids import Solids

        return Solids()
    if text == "shapes":
        from unlabeled.data.shapes import Shapes

        return Shapes()
    if text == "clips":
        from unlabeled.data.clips import Clips

        return Clips()
    if text == "motorcycle":
        from unlabeled.data.motorcycle import Motorcycle

        return Motorcycle()
    if text.startswith("frames:"):
        from unlabeled.data.pairs import FrameFolder

        return FrameFolder(text.removeprefix("frames:"))
    if text == "jumping":
        from unlabeled.data.jumping import Jumping

        return Jumping()
    if text.startswith("dm_control/"):
        from unlabeled.data.dm_control import DmControl

        return DmControl(environment=text.removeprefix("dm_control/"))
    if text == "still-life":
        from unlabeled.data.still_life import StillLife

        return StillLife()
    if text == "imagenet":
        from unlabeled.data.torchvision_data import ImageNet

        return ImageNet(root)
    if text == "asterisk":
        from unlabeled.data.asterisk import Asterisk

        return Asterisk(root)
    if text == "librispeech":
        from unlabeled.data.librispeech import LibriSpeech

        return LibriSpeech(root)
    if text.startswith("torchvision/"):
        from unlabeled.data.torchvision_data import Torchvision

        return Torchvision(text.removeprefix("torchvision/"), root=root, image_size=image_size)
    if text.startswith("hf:"):
        from unlabeled.data.huggingface import open_huggingface

        return open_huggingface(text.removeprefix("hf:"), channels=channels, image_size=image_size)
    if text.startswith(("http://", "https://")) or text.endswith(".tar"):
        from unlabeled.data.shards import Shards

        return Shards(text, channels=channels, image_size=image_size)
    return _open_path(text, channels=channels, image_size=image_size)


def _open_path(text: str, *, channels: int | None, image_size: int | None) -> DataSource:
    path = Path(text).expanduser()
    if (path / "pack.json").is_file():
        from unlabeled.data.packed import PackedImages, open_pack

        packed = PackedImages(str(path), image_size=image_size)
        found = open_pack(str(path)).channels
        if channels not in (None, found):
            raise ValueError(f"{text} has {found} channels, not {channels}: pack it again with it")
        return packed
    if (path / "unfinished.json").is_file():
        raise ValueError(f"{text} is an unfinished pack: repeat its `unlabeled data pack` command")
    if path.is_dir():
        from unlabeled.data.posed import PosedFolder, is_posed_folder

        if is_posed_folder(path):
            return PosedFolder(str(path))
        from unlabeled.data.coco import CocoFolder, is_coco_folder

        if is_coco_folder(path):
            return CocoFolder(str(path), image_size=image_size or 64)
        from unlabeled.data.graphs import GraphFolder, is_graph_folder

        if is_graph_folder(path):
            return GraphFolder(str(path))
        from unlabeled.data.folder import ImageFolder
        from unlabeled.data.shardlist import is_shard_folder
        from unlabeled.data.waves import WaveFolder, list_waves

        if is_shard_folder(str(path)):
            from unlabeled.data.shards import Shards

            return Shards(str(path), channels=channels, image_size=image_size)
        if not _shows_images(path):
            if list_waves(str(path)):
                return WaveFolder(str(path))
            from unlabeled.data.videos import VideoFolder, list_videos

            if list_videos(str(path)):
                return VideoFolder(str(path))
            from unlabeled.data.text_files import TextFiles, list_texts

            if list_texts(str(path)):
                return TextFiles(str(path))
        return ImageFolder(str(path), channels=channels, image_size=image_size)
    if not path.exists():
        raise _missing(text)
    if path.suffix in (".npy", ".npz"):
        from unlabeled.data.arrays import ArrayFile

        return ArrayFile(str(path), image_size=image_size)
    if path.suffix in (".md", ".rst"):
        from unlabeled.data.text_files import TextFiles

        return TextFiles(str(path))
    if path.suffix in (".txt", ".csv", ".tsv", ".parquet"):
        from unlabeled.data.paths import PathList
        from unlabeled.data.shardlist import is_shard_list

        if path.suffix != ".parquet" and is_shard_list(str(path)):
            from unlabeled.data.shards import Shards

            return Shards(str(path), channels=channels, image_size=image_size)
        if path.suffix == ".txt" and not _lists_paths(path):
            from unlabeled.data.text_files import TextFiles

            return TextFiles(str(path))
        return PathList(str(path), channels=channels, image_size=image_size)
    raise ValueError(f"{text} is a file that is no data source: give {FORMS}")


def _shows_images(folder: Path) -> bool:
    """Whether an image lies in the folder, at its first: a million files are listed once, later."""
    from unlabeled.data.decode import SUFFIXES

    return any(
        os.path.splitext(name)[1].lower() in SUFFIXES
        for _, _, names in os.walk(folder)
        for name in names
    )


def _lists_paths(path: Path) -> bool:
    """Whether the first line of a .txt file is a path or an address rather than prose."""
    with path.open(encoding="utf-8", errors="replace") as file:
        first = next((line.strip() for line in file if line.strip()), "")
    from unlabeled.data.decode import SUFFIXES

    image = os.path.splitext(first)[1].lower() in SUFFIXES
    return image or " " not in first or "://" in first or os.path.exists(path.parent / first)


def _missing(text: str) -> Exception:
    looks_like_path = "/" in text or Path(text).suffix in (
        ".npy", ".npz", ".txt", ".csv", ".tsv", ".parquet",
    )  # fmt: skip
    near = get_close_matches(text, NAMES, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    if looks_like_path and not near:
        return FileNotFoundError(f"{text} does not exist. Give {FORMS}")
    return ValueError(f"no data set or file {text!r}.{hint} Give {FORMS}")


def known() -> list[Known]:
    """Return the data sets that have names, and whether each is on this machine."""
    from unlabeled.data import (
        asterisk,
        emoji,
        fashion_mnist,
        graphs,
        librispeech,
        motorcycle,
        wordnet,
    )

    fashion: str | None = None
    drawings: str | None = None
    prompts: str | None = None
    glosses: str | None = None
    molecules: str | None = None
    stereo: str | None = None
    with suppress(FileNotFoundError):
        fashion = str(fashion_mnist.find())
    with suppress(FileNotFoundError):
        drawings = str(emoji.find()[0].parent)
    with suppress(FileNotFoundError):
        prompts = str(asterisk.find())
    with suppress(FileNotFoundError):
        glosses = str(wordnet.find())
    with suppress(FileNotFoundError):
        molecules = str(graphs.find_mutag())
    with suppress(FileNotFoundError):
        stereo = str(motorcycle.find())
    return [
        Known("fashion-mnist", fashion, fashion_mnist.REMEDY, 70_000),
        Known("emoji", drawings, emoji.REMEDY, 1870),
        Known("digits", "scikit-learn", "comes with scikit-learn", 1797),
        Known("xrays", "drawn", "drawn when asked for", 7000),
        Known("still-life", "drawn", "drawn when asked for", 48_000),
        Known("python-docs", "Python", "comes with Python", 3279),
        Known("wordnet", glosses, wordnet.REMEDY, 47_452),
        Known("spoken", "synthesized", "synthesized when asked for", 1800),
        Known("mutag", molecules, graphs.MUTAG_REMEDY, 188),
        Known("isomers", "generated", "generated when asked for", 1200),
        Known("rooms", "rendered", "rendered when asked for", 800),
        Known("shapes", "drawn", "drawn when asked for", 5000),
        Known("solids", "rendered", "rendered when asked for", 5000),
        Known("stickers", drawings, emoji.REMEDY, 5000),
        Known("clips", "drawn", "drawn when asked for", 500),
        Known("motorcycle", stereo, motorcycle.REMEDY, 1),
        Known("jumping", "simulated", "simulated when asked for", 18),
        Known("imagenet", None, "get it at image-net.org, then give its folder as root", 1_331_167),
        Known("asterisk", prompts, asterisk.REMEDY, 2_780),
        Known("librispeech", None, librispeech.REMEDY, 28_539),
    ]


def get(name: str) -> str:
    """Fetch a named data set (over the network if need be) and return where it lies.

    Raises:
        ValueError: a name that cannot be fetched.
        OSError: it could not be had; the message says what was tried.
    """
    if name == "fashion-mnist":
        from unlabeled.data import fashion_mnist

        return str(fashion_mnist.get())
    if name == "emoji":
        from unlabeled.data import emoji

        return str(emoji.get())
    if name == "asterisk":
        from unlabeled.data import asterisk

        return str(asterisk.get())
    if name == "mutag":
        from unlabeled.data.graphs import get_mutag

        return str(get_mutag())
    if name == "motorcycle":
        from unlabeled.data import motorcycle

        return str(motorcycle.get())
    if name == "wordnet":
        from unlabeled.data import wordnet

        return str(wordnet.get())
    if name == "digits":
        return "scikit-learn"
    if name.startswith("torchvision/"):
        from unlabeled.data import torchvision_data

        return str(torchvision_data.get(name.removeprefix("torchvision/")))
    near = [other for other in get_close_matches(name, NAMES, n=1) if other != name]
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ValueError(
        f"{name!r} cannot be fetched.{hint} Give fashion-mnist, emoji, asterisk, wordnet, mutag, "
        "motorcycle or torchvision/NAME"
    )
