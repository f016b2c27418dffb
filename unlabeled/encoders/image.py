"""Image encoders by name."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.backbone import ImageEncoder
from unlabeled.encoders.from_timm import timm_encoder
from unlabeled.encoders.from_torchvision import torchvision_encoder, torchvision_names
from unlabeled.encoders.small import small_resnet
from unlabeled.encoders.weights import InitReport, init_weights

__all__ = [
    "ImageEncoder",
    "InitReport",
    "image_encoder",
    "init_weights",
    "small_resnet",
    "timm_encoder",
    "torchvision_encoder",
]


def image_encoder(name: str, *, online: bool = False) -> Callable[[ImageSpec], ImageEncoder]:
    """Return the builder that a name means, in a form that a recipe can store.

    Args:
        name: ``small``, ``timm/resnet50``, ``torchvision/resnet18``, ``transformers/NAME`` (a
            folder with config.json, or a name in the Hugging Face cache), or a bare architecture,
            which is looked for in timm, then in torchvision.
        online: whether the configuration of a transformers model may be downloaded.

    Raises:
        ValueError: no such encoder; the message lists the nearest names.
    """
    if name == "small":
        return partial(small_resnet)
    if name.startswith("transformers/"):
        from unlabeled.encoders.from_transformers import read_config, transformers_encoder

        config = read_config(name.removeprefix("transformers/"), online=online)
        return partial(transformers_encoder, config=config)
    import timm

    library, _, architecture = name.rpartition("/")
    if library in ("", "timm") and timm.is_model(architecture):
        return partial(timm_encoder, name=architecture)
    if library in ("", "torchvision") and architecture in torchvision_names():
        return partial(torchvision_encoder, name=architecture)
    known = {
        "small": ["small"],
        "timm": [f"timm/{each}" for each in timm.list_models()],
        "torchvision": [f"torchvision/{each}" for each in torchvision_names()],
    }
    pool = known.get(library, [each for names in known.values() for each in names])
    near = get_close_matches(name if library else f"timm/{name}", pool, n=3)
    hint = (
        f"did you mean {', '.join(near)}?"
        if near
        else "use small, timm/NAME, torchvision/NAME, transformers/NAME"
    )
    raise ValueError(f"no image encoder {name!r}: {hint}")
