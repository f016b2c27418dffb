"""Any image model of transformers as an encoder."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.backbone import ImageEncoder, Origin, dry_run, first_line, refuse
from unlabeled.extras import require

if TYPE_CHECKING:
    from jaxtyping import Float

MOST_PREFIX = 8
"""More tokens than these beside a square grid are no class token and registers."""


class TransformersEncoder(ImageEncoder):
    """A transformers image model as an encoder; `transformers_encoder` builds it.

    ``pool`` is the class token of ``last_hidden_state`` where the model has one, else the average.
    """

    def __init__(
        self, net: Any, *, dim: int, prefix: int, flexible: bool, spec: ImageSpec, made: Origin
    ) -> None:
        super().__init__(net, dim=dim, spec=spec, made=made)
        self.prefix = prefix
        self.flexible = flexible

    def features(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        """Maps [B, dim, H, W] or tokens [B, N, dim]: ``last_hidden_state``."""
        return _last_features(self.net, x, flexible=self.flexible)

    def pool(self, local: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        """[B, dim]: the class token, or the average over positions."""
        return local[:, 0] if self.prefix else local.mean(1)


def transformers_encoder(spec: ImageSpec, *, config: Mapping[str, Any]) -> TransformersEncoder:
    """Build a transformers image model with random weights: see `init_weights` for others.

    Args:
        spec: the input; its channels replace those of the configuration.
        config: what the model's config.json holds (`read_config`).

    Raises:
        ValueError: a kind of model that transformers does not know, or one that takes no images.
        ImportError: transformers is missing; says how to get it.
    """
    transformers = require("transformers", extra="hf")
    kind = str(config.get("model_type", ""))
    origin = f"transformers/{kind}"
    settings = {key: value for key, value in config.items() if key != "model_type"}
    settings["num_channels"] = spec.channels
    try:
        made = transformers.AutoConfig.for_model(kind, **settings)
        build = partial(_built, made)
        with torch.device("meta"):  # only its signature is looked at
            takes = inspect.signature(build().forward).parameters
        if "pixel_values" not in takes:
            raise ValueError("it takes no images")
        flexible = "interpolate_pos_encoding" in takes
        features = dry_run(build, partial(_last_features, flexible=flexible), spec=spec)
    except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise refuse(origin, spec, error) from error
    dim = features.shape[1] if features.ndim == 4 else features.shape[2]
    prefix = 0
    if features.ndim == 3:
        count = features.shape[1]
        prefix = count - math.isqrt(count) ** 2
        if prefix > MOST_PREFIX:
            raise ValueError(
                f"{origin} gives {count} tokens for {spec.size} px, which are no square: give "
                "images of another size"
            )
    return TransformersEncoder(
        build(),
        dim=dim,
        prefix=prefix,
        flexible=flexible,
        spec=spec,
        made=Origin(name=origin, arguments={"config": dict(config)}),
    )


def read_config(name: str, *, online: bool = False) -> dict[str, Any]:
    """Return the configuration of a folder, or of a model in the Hugging Face cache.

    Args:
        name: a folder with config.json, or a name such as ``facebook/dinov2-small``.
        online: whether it may be downloaded.

    Raises:
        ValueError: not there; says what would get it.
        ImportError: transformers is missing; says how to get it.
    """
    path = Path(name) / "config.json"
    if not path.is_file():
        hub = require("huggingface_hub", extra="hf")
        try:
            path = Path(hub.hf_hub_download(name, "config.json", local_files_only=not online))
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"transformers/{name}: no such folder, and not in the cache of the Hugging Face "
                f"Hub ({first_line(error)}): download it (hub:transformers/{name} does)"
            ) from error
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): get it again") from error
    if "model_type" not in config:
        raise ValueError(f"{path} is no configuration of transformers: it has no model_type")
    return dict(config)


def _built(config: Any) -> nn.Module:
    transformers = require("transformers", extra="hf")
    net: nn.Module = transformers.AutoModel.from_config(config)
    # CLIP, SigLIP and their kind have a tower for each of two modalities
    return getattr(net, "vision_model", net)


def _last_features(net: Any, x: Tensor, *, flexible: bool) -> Tensor:
    options = {"interpolate_pos_encoding": True} if flexible else {}
    return net(pixel_values=x, **options).last_hidden_state
