"""Image models by name, with weights and the preprocessing that goes with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.backbone import ImageEncoder
from unlabeled.encoders.image import image_encoder
from unlabeled.encoders.weights import init_weights

HUB = "hub:"


class Preprocessing(NamedTuple):
    """Side in pixels, and mean and standard deviation of each color."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def named_encoder(
    text: str, spec: ImageSpec, *, image_size: int | None = None
) -> tuple[ImageEncoder, Callable[[ImageSpec], ImageEncoder]]:
    """Return the encoder that a text means, in eval mode, and the builder of its architecture.

    Weights come with a preprocessing where it is known: that of the hub's model, or what
    config.json or preprocessor_config.json beside the file say. The encoder then takes images of
    that size, normalized in that way; else (random weights, a file alone) as the data suggests.

    Args:
        text: ``timm/resnet18`` (random weights), ``timm/resnet18=weights.pt``,
            ``hub:timm/resnet18`` (downloads), ``transformers/FOLDER`` (weights of the folder).
        spec: what the data suggests.
        image_size: the side in pixels, if not that of the weights or the data.

    Raises:
        ValueError: no such model, weights that do not fit it or cannot be had.
        FileNotFoundError: no such file of weights.
    """
    name, _, weights = text.partition("=")
    online = name.startswith(HUB)
    if online:
        name, weights = name.removeprefix(HUB), weights or name
    builder = image_encoder(name, online=online)
    if name.startswith("transformers/") and not weights:
        weights = name  # a folder, or a name in the cache: both have weights
    known = preprocessing(weights) if weights else None
    if known is not None:
        spec = _spec(spec, known)
    if image_size is not None:
        spec = replace(spec, size=image_size)
    encoder = builder(spec)
    if weights:
        init_weights(encoder, weights)
    return encoder.eval(), builder


def preprocessing(weights: str) -> Preprocessing | None:
    """Return what the weights say of their input; None where they say nothing.

    Args:
        weights: a file, ``transformers/FOLDER``, or ``hub:LIBRARY/NAME`` of timm, torchvision or
            transformers.
    """
    online = weights.startswith(HUB)
    if not online and not weights.startswith("transformers/"):
        return _beside(Path(weights))
    library, _, architecture = weights.removeprefix(HUB).partition("/")
    if library == "timm":
        import timm

        config = timm.get_pretrained_cfg(architecture)
        return None if config is None else Preprocessing(
            config.input_size[-1], tuple(config.mean), tuple(config.std)
        )  # fmt: skip
    if library == "torchvision":
        from torchvision.models import get_model_weights

        found = get_model_weights(architecture).DEFAULT.transforms()
        return Preprocessing(found.crop_size[0], tuple(found.mean), tuple(found.std))
    folder = Path(architecture)
    if folder.is_dir():
        return _of_transformers(folder / "preprocessor_config.json")
    from unlabeled.extras import require

    hub = require("huggingface_hub", extra="hf")
    name = "preprocessor_config.json"
    try:
        file = hub.hf_hub_download(architecture, name, local_files_only=not online)
    except (OSError, ValueError):  # some models have none
        return None
    return _of_transformers(Path(file))


def _beside(file: Path) -> Preprocessing | None:
    ours = file.with_name("encoder.json")
    if ours.is_file():
        spec = json.loads(ours.read_text())["spec"]["options"]
        return Preprocessing(spec["size"], tuple(spec["mean"]), tuple(spec["std"]))
    config = file.with_name("config.json")
    if config.is_file():
        found = json.loads(config.read_text()).get("pretrained_cfg")
        if found is not None and {"input_size", "mean", "std"} <= set(found):
            return Preprocessing(found["input_size"][-1], tuple(found["mean"]), tuple(found["std"]))
    return _of_transformers(file.with_name("preprocessor_config.json"))


def _of_transformers(path: Path) -> Preprocessing | None:
    if not path.is_file():
        return None
    facts: dict[str, Any] = json.loads(path.read_text())
    size = facts.get("crop_size") or facts.get("size") or {}
    side = size if isinstance(size, int) else size.get("height", size.get("shortest_edge"))
    if side is None or "image_mean" not in facts:
        return None
    return Preprocessing(int(side), tuple(facts["image_mean"]), tuple(facts["image_std"]))


def _spec(spec: ImageSpec, known: Preprocessing) -> ImageSpec:
    """The preprocessing for data of as many channels as ``spec`` has."""
    if len(known.mean) == spec.channels:
        return replace(spec, size=known.size, mean=known.mean, std=known.std)
    # weights of another number of channels are spread over these: so are their statistics
    mean, std = (sum(values) / len(values) for values in (known.mean, known.std))
    channels = spec.channels
    return replace(spec, size=known.size, mean=(mean,) * channels, std=(std,) * channels)
